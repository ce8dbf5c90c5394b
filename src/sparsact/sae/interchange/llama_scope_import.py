"""Reading the autoencoders of Llama Scope, and others of the library lm_saes."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.interchange.assembly import assembled, set_levels_
from sparsact.sae.interchange.foreign_files import Tensors, setting, unsupported
from sparsact.sae.interchange.hook_names import hooked
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.weight_directory import read_object

SETTINGS, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
LATER_SETTINGS, LATER_WEIGHTS = "config.json", "sae_weights.safetensors"

LOG_THRESHOLD = "log_jumprelu_threshold"


def load_llama_scope(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder or transcoder of Llama Scope.

    Its weights are converted as lm_saes does for inference, so that activations need no factor:
    the mean norm of the training's activations is folded into biases and decoder, then the
    lengths of decoder rows into the encoder (``sparsity_include_decoder_norm``), and the
    threshold applies to the latents that result.

    Args:
        path: the directory of ``hyperparams.json`` and ``checkpoints/final.safetensors``, or of
            ``config.json`` and ``sae_weights.safetensors`` (R1-Distill).

    Returns:
        a jumprelu, relu or top-k autoencoder, in float32 and eval mode. A top-k with a
        threshold is read as a jumprelu, as lm_saes does.

    Raises:
        MissingInputError: a FileNotFoundError: a file is missing.
        InputError: a ValueError: another activation or normalisation, or unknown tensors.

    Source:
        He et al., "Llama Scope" (2024), and ``from_config`` of
        https://github.com/OpenMOSS/Language-Model-SAEs; checked against that formula.
    """
    folder = Path(path)
    is_later = not (folder / SETTINGS).exists() and (folder / LATER_SETTINGS).exists()
    name, weights = (LATER_SETTINGS, LATER_WEIGHTS) if is_later else (SETTINGS, WEIGHTS)
    settings = read_object(folder / name)
    tensors = Tensors(folder / weights)
    d_sae, d_in = tensors.sizes("encoder.weight")
    d_out, _ = tensors.sizes("decoder.weight")
    encoder = tensors.take("encoder.weight", d_sae, d_in)
    bias = tensors.take("encoder.bias", d_sae)
    decoder = tensors.take("decoder.weight", d_out, d_sae).T
    decoder_bias = _decoder_bias(tensors, settings, d_out)
    factor_in, factor_out = _factors(settings, d_in, d_out, folder)
    bias, decoder_bias = bias / factor_in, decoder_bias / factor_out
    decoder = decoder * (factor_in / factor_out)
    if settings.get("sparsity_include_decoder_norm"):
        length = torch.linalg.vector_norm(decoder, dim=1)
        encoder, bias = encoder * length[:, None], bias * length
        decoder = decoder / length[:, None]
    read_at, written_at = settings.get("hook_point_in"), settings.get("hook_point_out")
    is_transcoder = (written_at or read_at) != read_at
    sae = assembled(
        SAEConfig(d_in, d_sae, d_out=d_out if is_transcoder else None, **_kind(settings, folder)),
        encoder,
        bias,
        decoder,
        decoder_bias,
        subtracts_bias=bool(settings.get("apply_decoder_bias_to_pre_encoder")),
    )
    if sae.config.activation == "jumprelu":
        set_levels_(sae, _levels(tensors, settings, d_sae, folder))
    tensors.end()
    if isinstance(read_at, str):
        sae.trained_on = hooked(settings.get("model_name"), read_at)
    return sae


def _decoder_bias(tensors: Tensors, settings: dict[str, Any], d_out: int) -> Tensor:
    if settings.get("use_decoder_bias", True):
        return tensors.take("decoder.bias", d_out)
    return torch.zeros(d_out)


def _factors(settings: dict[str, Any], d_in: int, d_out: int, folder: Path) -> tuple[float, float]:
    """The factors by which inputs and targets were multiplied in training."""
    normalization = settings.get("norm_activation", "inference")
    if normalization == "inference":
        return 1.0, 1.0
    if normalization != "dataset-wise":
        raise unsupported(
            f"norm_activation={normalization!r}", ("inference", "dataset-wise"), folder
        )
    norms = settings.get("dataset_average_activation_norm") or {}
    mean_in, mean_out = norms.get("in"), norms.get("out")
    if not (isinstance(mean_in, (int, float)) and isinstance(mean_out, (int, float))):
        raise InputError(
            f"dataset_average_activation_norm of {folder} must hold the numbers 'in' and 'out', "
            f"found {norms!r}"
        )
    return math.sqrt(d_in) / mean_in, math.sqrt(d_out) / mean_out


def _kind(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    function = settings.get("act_fn", "jumprelu")
    if settings.get("use_glu_encoder"):
        raise unsupported("a gated linear encoder", ("a linear encoder",), folder)
    if function == "topk":
        if (settings.get("jump_relu_threshold") or 0) > 0:
            return {"activation": "jumprelu"}
        return {"activation": "topk", "k": setting(settings, "top_k", int, folder)}
    if function not in ("jumprelu", "relu"):
        raise unsupported(f"the activation {function!r}", ("jumprelu", "relu", "topk"), folder)
    return {"activation": function}


def _levels(tensors: Tensors, settings: dict[str, Any], d_sae: int, folder: Path) -> Tensor:
    """One threshold, or one for each latent."""
    if LOG_THRESHOLD in tensors:
        return tensors.take(LOG_THRESHOLD, d_sae).exp()
    level = settings.get("jump_relu_threshold")
    if isinstance(level, bool) or not isinstance(level, (int, float)):
        raise InputError(f"jump_relu_threshold of {folder} must be a number, found {level!r}")
    return torch.tensor(float(level))
