"""Writing what SAELens reads."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sparsact
from sparsact.nn import BatchTopK, JumpReLU, TopK
from sparsact.sae.files import write_whole
from sparsact.sae.gated import GatedReLU
from sparsact.sae.interchange.foreign import SETTINGS
from sparsact.sae.interchange.saelens_import import WEIGHTS
from sparsact.sae.model import SparseAutoencoder

VERSION = "6.54.0"
"""Of SAELens, whose files these are."""


def save_saelens(
    sae: SparseAutoencoder, path: str | Path, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write an autoencoder so that ``sae_lens.SAE.load_from_disk`` reads it.

    relu becomes a ``standard``, topk a ``topk``, jumprelu a ``jumprelu``, gated a ``gated``, and
    batch_topk a ``jumprelu`` of its running threshold, which is what it computes in eval mode and
    what SAELens makes of its own; transcoders of relu and jumprelu become ``transcoder`` and
    ``jumprelu_transcoder``. The input scale is folded into the weights.

    Args:
        sae: left as it is.
        path: the directory: a new one, or an empty one.
        metadata: what SAELens keeps beside the settings, such as ``hook_name`` and ``model_name``.

    Returns:
        the directory, with ``cfg.json`` and ``sae_weights.safetensors``.

    Raises:
        FileExistsError: the directory is not empty.
        ValueError: SAELens has no autoencoder of that kind: softshrink, selection by magnitude,
            a module of your own, a transcoder that selects or is gated.

    Example:
        >>> import tempfile
        >>> from sparsact.sae import SAEConfig, load_saelens
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2)).eval()
        >>> with tempfile.TemporaryDirectory() as path:
        ...     loaded = load_saelens(save_saelens(sae, path))
        >>> x = torch.randn(5, 4)
        >>> torch.equal(loaded.encode(x), sae.encode(x))
        True
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is no empty directory: choose another")
    folded = copy.deepcopy(sae).fold_scale_()
    settings, tensors = _shared(folded)
    architecture, own = _kind(folded)
    if folded.scale_in != 1:
        raise ValueError(
            f"the scale of training cannot be folded into the fixed level of {sae.activation}, and "
            "SAELens has no place for it: train with learnable=True, or normalize_input=False"
        )
    settings |= {"architecture": architecture, "metadata": _metadata(metadata or {})}
    if isinstance(folded.activation, TopK):
        settings |= {"k": folded.activation.k, "rescale_acts_by_decoder_norm": False}
    return write_whole(path, tensors | own, settings, (WEIGHTS, SETTINGS))


def _shared(sae: SparseAutoencoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What all architectures have."""
    config = sae.config
    settings: dict[str, Any] = {
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not config.is_transcoder,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if config.is_transcoder:
        settings["d_out"] = config.width_out
    tensors = {"W_enc": sae.encoder.weight.T, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    return settings, {name: value.float() for name, value in tensors.items()}


def _kind(sae: SparseAutoencoder) -> tuple[str, dict[str, Tensor]]:
    """The architecture of SAELens, and the tensors that are its own."""
    activation, bias = sae.activation, sae.encoder.bias.float()
    is_transcoder = sae.config.is_transcoder
    if isinstance(activation, nn.ReLU):
        return "transcoder" if is_transcoder else "standard", {"b_enc": bias}
    if (level := _level(activation, bias)) is not None:
        architecture = "jumprelu_transcoder" if is_transcoder else "jumprelu"
        return architecture, {"b_enc": bias, "threshold": level}
    if isinstance(activation, TopK) and activation.by == "value" and not is_transcoder:
        return "topk", {"b_enc": bias}
    if isinstance(activation, GatedReLU) and not is_transcoder:
        scale = activation.log_scale.float()
        magnitude = activation.bias.float() + scale.exp() * bias
        return "gated", {"b_gate": bias, "b_mag": magnitude, "r_mag": scale}
    what = "transcoder" if is_transcoder else "autoencoder"
    raise ValueError(
        f"SAELens has no {what} with {type(activation).__name__} ({sae.config.activation!r}): "
        "relu, topk, batch_topk, jumprelu and gated can be exported, and transcoders of relu, "
        "batch_topk and jumprelu"
    )


def _level(activation: nn.Module, like: Tensor) -> Tensor | None:
    """The threshold of each latent, of the kinds that have one in eval mode."""
    if isinstance(activation, BatchTopK) and activation.by == "value":
        return activation.running_threshold.float().expand_as(like)
    if isinstance(activation, JumpReLU):
        level = activation.threshold(like)
        return torch.as_tensor(level, dtype=torch.float32).expand_as(like)
    return None


def _metadata(own: Mapping[str, Any]) -> dict[str, Any]:
    written_by = {"trained_with": f"sparsact {sparsact.__version__}"}
    return {**own, **written_by, "sae_lens_version": VERSION, "sae_lens_training_version": None}
