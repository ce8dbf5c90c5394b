"""The core metrics of SAEBench."""

from collections.abc import Iterable

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.evaluation.dictionary_match import largest_cosines
from sparsact.sae.evaluation.reconstruction_metrics import evaluate
from sparsact.sae.evaluation.spliced_model import SpliceMetrics
from sparsact.sae.sae_model import SparseAutoencoder, evaluating

CoreMetrics = dict[str, dict[str, float]]


@torch.no_grad()
def core_metrics(
    sae: SparseAutoencoder,
    rows: Iterable[Tensor],
    spliced: SpliceMetrics | None = None,
) -> CoreMetrics:
    """The core metrics of SAEBench, by its names and in its groups.

    Args:
        sae: no transcoder.
        rows: batches (n, d_in) of activations; read twice, so a list.
        spliced: from :func:`evaluate_spliced`; without it the two groups about the model are left
            out.

    Raises:
        InputError: a ValueError: no rows, NaN, another width, or a transcoder.

    Example:
        >>> from sparsact.sae import SAEConfig
        >>> sae = SparseAutoencoder(SAEConfig(d_in=8, d_sae=32, k=4))
        >>> core_metrics(sae, [torch.randn(50, 8)])["sparsity"]["l0"] <= 4
        True

    Source:
        Karvonen et al., "SAEBench" (2025), core metrics of its version 0.6. Explained variance is
        around the mean over all rows; there around that of each batch. Ablation is by zeros.
    """
    if sae.config.is_transcoder:
        raise InputError("the core metrics are those of an autoencoder, not of a transcoder")
    batches = list(rows)
    basic = evaluate(sae, batches)
    sums = torch.zeros(5, dtype=torch.float64)
    with evaluating(sae):
        for batch in batches:
            sums += _norms(sae, batch.to(sae.W_dec.device))
    size_in, size_out, ratio, l1 = (sums[:4] / basic.inputs).tolist()
    dot = sum(_dot(sae, batch.to(sae.W_dec.device)) for batch in batches)
    density = basic.density
    metrics: CoreMetrics = {} if spliced is None else _behaviour(spliced)
    return metrics | {
        "reconstruction_quality": {
            "explained_variance": basic.explained_variance,
            "mse": basic.mse,
            "cossim": basic.cosine,
        },
        "shrinkage": {
            "l2_norm_in": size_in,
            "l2_norm_out": size_out,
            "l2_ratio": ratio,
            "relative_reconstruction_bias": float(sums[4]) / dot if dot else float("nan"),
        },
        "sparsity": {"l0": basic.l0, "l1": l1},
        "token_stats": {"total_tokens_eval_sparsity_variance": float(basic.inputs)},
        "misc_metrics": {
            "freq_over_1_percent": float((density > 0.01).float().mean()),
            "freq_over_10_percent": float((density > 0.1).float().mean()),
            "normalized_freq_over_1_percent": _share(density, 0.01),
            "normalized_freq_over_10_percent": _share(density, 0.1),
            "average_max_encoder_cosine_sim": _mean_cosine(sae.encoder.weight),
            "average_max_decoder_cosine_sim": _mean_cosine(sae.W_dec),
            "frac_alive": 1 - basic.silent,
        },
    }


def _behaviour(spliced: SpliceMetrics) -> CoreMetrics:
    zero = spliced.zero_kl
    return {
        "model_behavior_preservation": {
            "kl_div_score": (zero - spliced.kl) / zero if zero else float("nan"),
            "kl_div_with_ablation": zero,
            "kl_div_with_sae": spliced.kl,
        },
        "model_performance_preservation": {
            "ce_loss_score": spliced.recovered_of_zero,
            "ce_loss_with_ablation": spliced.zero_ablated,
            "ce_loss_with_sae": spliced.spliced,
            "ce_loss_without_sae": spliced.cross_entropy,
        },
    }


def _norms(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Sums over rows: norms in and out, their ratio, L1 of the latents, squared norm out."""
    latents = sae.encode(x)
    size, rebuilt = x.double().norm(dim=1), sae.rebuild(latents, x).double().norm(dim=1)
    ratio = rebuilt / size.clamp(min=torch.finfo(torch.float32).tiny)
    l1 = latents.double().abs().sum()
    return torch.stack([size.sum(), rebuilt.sum(), ratio.sum(), l1, rebuilt.square().sum()]).cpu()


def _dot(sae: SparseAutoencoder, x: Tensor) -> float:
    return float((sae(x).double() * x.double()).sum())


def _share(density: Tensor, level: float) -> float:
    """The share of activations that come from latents above a density."""
    total = float(density.sum())
    return float(density[density > level].sum()) / total if total else float("nan")


def _mean_cosine(rows: Tensor) -> float:
    return float(largest_cosines(rows, None)[0].mean()) if len(rows) > 1 else float("nan")
