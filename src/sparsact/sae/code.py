"""From inputs to reconstructions in training: with all latents, or with the active ones alone."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sparsact.functional import jumprelu, softshrink
from sparsact.kernels import (
    Entries,
    csr_linear,
    linear_threshold,
    linear_topk,
    sparse_grad_linear,
)
from sparsact.nn import BatchTopK, JumpReLU, Softshrink, TopK
from sparsact.sae.gated import GatedReLU
from sparsact.sae.kinds import SparsityTerm, levels, levels_at
from sparsact.sae.model import SparseAutoencoder

SPARSE_BELOW = 0.1
"""Share of active latents below which the sparse kernels are faster than dense products."""


class Code(NamedTuple):
    """What one forward found.

    Pre-activations and latents are matrices (batch, d_sae), or of the sparse path the entries
    that the threshold lets through or learns from, the same ones in both.

    Attributes:
        rebuilt: (batch, d_out), in the scale of training.
        l0: mean number of active latents.
        fired: (d_sae,) bool: latents active somewhere in the batch.
        pre: pre-activations, or None where a selection never made them.
        latents: or None, likewise.
    """

    rebuilt: Tensor
    l0: Tensor
    fired: Tensor
    pre: Tensor | Entries | None
    latents: Tensor | Entries | None


def encode(sae: SparseAutoencoder, centered: Tensor, sparse: bool) -> Code:
    """Encode and decode, by the sparse kernels if `sparse`; both give the same numbers.

    Under autocast the kernels stay in float32, still the faster way, but for a selection of the
    largest: what is selected is computed again.
    """
    if not sparse:
        return _dense(sae, sae.encoder(centered))
    select_dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else None
    with torch.autocast("cpu", enabled=False):
        if isinstance(sae.activation, TopK):
            return _selected(sae, centered, sae.activation.k, select_dtype)
        if isinstance(sae.activation, BatchTopK):
            return _compressed(sae, centered)
        return _passed(sae, centered)


def can_be_sparse(sae: SparseAutoencoder) -> bool:
    """Whether the kernels serve here: compiled for float32 on the CPU."""
    weight = sae.W_dec
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and _skips_what_it_stops(sae.activation)
    )


def serves(sae: SparseAutoencoder, term: SparsityTerm | None) -> bool:
    """Whether what the sparse path gives is enough for the penalty."""
    if term is None or isinstance(sae.activation, BatchTopK):
        return True
    return not isinstance(sae.activation, TopK) and term.counts_entries


def _skips_what_it_stops(activation: nn.Module) -> bool:
    """Whether what does not pass the threshold has no gradient, or one that is known here."""
    if isinstance(activation, TopK):
        return activation.by == "value"
    if isinstance(activation, JumpReLU):
        return activation.kernel == "rectangle"
    if isinstance(activation, Softshrink):
        return activation.sides == "both"
    return isinstance(activation, (nn.ReLU, BatchTopK, GatedReLU))


def _dense(sae: SparseAutoencoder, pre: Tensor) -> Code:
    latents = sae.activation(pre)
    active = latents.detach() != 0
    return Code(sae.reconstruct(latents), active.sum(1).float().mean(), active.any(0), pre, latents)


def _selected(
    sae: SparseAutoencoder, centered: Tensor, k: int, select_dtype: torch.dtype | None
) -> Code:
    """The largest k, selected as they are made: the whole matrix is never written."""
    encoder = sae.encoder
    largest, indices = linear_topk(
        centered, encoder.weight, encoder.bias, k, select_dtype=select_dtype
    )
    values = largest.relu()
    rebuilt = csr_linear((values, indices), sae.W_dec, sae.b_dec)
    return Code(rebuilt, *_activity(values, indices, rebuilt, sae), None, None)


def _compressed(sae: SparseAutoencoder, centered: Tensor) -> Code:
    """What passes a level that the rows share, known only when all pre-activations are."""
    pre = sparse_grad_linear(centered, sae.encoder.weight, sae.encoder.bias)
    latents = sae.activation(pre)
    nothing = torch.zeros(latents.shape[1])
    entries = Entries(*torch.ops.sparsact.threshold_compress(latents, nothing))
    rebuilt = csr_linear(entries, sae.W_dec, sae.b_dec)
    return Code(rebuilt, *_activity(entries.values, entries.columns, rebuilt, sae), pre, latents)


def _passed(sae: SparseAutoencoder, centered: Tensor) -> Code:
    """What passes the latents' own thresholds, found as it is made."""
    level, by = _cut(sae)
    pre = linear_threshold(centered, sae.encoder.weight, sae.encoder.bias, level, by=by)
    latents = pre._replace(values=_at_entries(sae, pre.values, pre.columns))
    rebuilt = csr_linear(latents, sae.W_dec, sae.b_dec)
    return Code(rebuilt, *_activity(latents.values, pre.columns, rebuilt, sae), pre, latents)


def _cut(sae: SparseAutoencoder) -> tuple[float | Tensor, Literal["value", "magnitude"]]:
    """What a pre-activation has to exceed.

    A learned jump also takes gradients through entries just below it: they come along as zeros.
    """
    activation = sae.activation
    if isinstance(activation, JumpReLU):
        return levels(activation) - activation.bandwidth / 2, "value"
    if isinstance(activation, Softshrink):
        return levels(activation), "magnitude"
    return 0.0, "value"


def _at_entries(sae: SparseAutoencoder, pre: Tensor, columns: Tensor) -> Tensor:
    """The values of the latents `columns` for their pre-activations, both (entries,)."""
    activation = sae.activation
    if isinstance(activation, JumpReLU):
        level = levels_at(activation, columns)
        return jumprelu(pre, level, bandwidth=activation.bandwidth)
    if isinstance(activation, Softshrink):
        return softshrink(pre, levels_at(activation, columns))
    return activation.at(pre, columns) if isinstance(activation, GatedReLU) else pre.relu()


def _activity(
    values: Tensor, columns: Tensor, rows: Tensor, sae: SparseAutoencoder
) -> tuple[Tensor, Tensor]:
    """The mean number of entries that are not zero, and the latents (d_sae,) that have one."""
    active = (values.detach() != 0).flatten()
    counts = torch.zeros(sae.config.d_sae).index_add_(0, columns.flatten().int(), active.float())
    return active.sum() / max(len(rows), 1), counts > 0
