"""Reading files of SAELens."""

import json
from pathlib import Path
from typing import Any

import torch

from sparsact._common.errors import InputError
from sparsact.sae.interchange.foreign_files import SETTINGS, Tensors, setting, unsupported
from sparsact.sae.interchange.hook_names import hooked
from sparsact.sae.kinds import KINDS
from sparsact.sae.row_norms import Normalize
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import read_object

WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
NEWEST = 6
"""Newest major version of SAELens whose files can be read."""

TRANSCODER, SKIP = "transcoder", "skip_transcoder"
"""The architectures of transcoders end so, with and without a skip connection."""

NORMALIZATIONS: dict[str, Normalize] = {
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "unit_norm",
}
"""Normalisation of each input in SAELens → ours."""

ARCHITECTURES: dict[str, str] = {
    architecture: kind.name for kind in KINDS.values() for architecture in kind.saelens_reads
}
"""Architecture of SAELens → the kind it is read as."""


def load_saelens(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder that SAELens saved, for inference or during training.

    Latents and reconstructions are those of SAELens. The norms of decoder rows by which the
    encoder is multiplied (``rescale_acts_by_decoder_norm``) are folded into the weights, and so
    is the decoder's bias if it is not subtracted from the input (``apply_b_dec_to_input``). A
    factor of the activations that is not yet folded into the weights becomes the scale of the
    module. Where SAELens reshapes heads (``hook_z``), rows here contain all heads.

    Args:
        path: the directory of ``cfg.json`` and ``sae_weights.safetensors``.

    Returns:
        the autoencoder in float32 and eval mode. A ``batchtopk`` keeps k latents per row on
        average in training mode, and uses its threshold in eval mode.

    Raises:
        MissingInputError: a FileNotFoundError: a file is missing.
        InputError: a ValueError: an unknown architecture, option, version or tensor. Supported
            architectures are standard, topk, batchtopk, matryoshka_batchtopk, jumprelu, gated,
            and transcoder and jumprelu_transcoder with or without a skip connection.

    Source:
        the classes of SAELens 6.54 (https://github.com/decoderesearch/SAELens) for the meaning
        of each setting; checked against files and outputs of that library.
    """
    path = Path(path)
    settings, tensors = read_object(path / SETTINGS), Tensors(path / WEIGHTS)
    settings = _current(settings, path)
    architecture = settings["architecture"]
    if architecture not in ARCHITECTURES:
        supported = sorted(ARCHITECTURES, key=lambda name: name.endswith(TRANSCODER))
        raise unsupported(f"the architecture {architecture!r} of SAELens", supported, path)
    is_transcoder = architecture.endswith(TRANSCODER)
    sae = SparseAutoencoder(
        SAEConfig(
            d_in=setting(settings, "d_in", int, path),
            d_sae=setting(settings, "d_sae", int, path),
            activation=ARCHITECTURES[architecture],
            d_out=setting(settings, "d_out", int, path) if is_transcoder else None,
            skip=SKIP in architecture,
            normalize=NORMALIZATIONS.get(settings.get("normalize_activations") or "", "none"),
            **_k(settings, path),
        )
    )
    _set_scale(sae, settings, path)
    _fill(sae, tensors, settings, path)
    sae.is_fresh = False
    sae.trained_on = _trained_on(settings)
    return sae.eval()


def _trained_on(settings: dict[str, Any]) -> TrainedOn | None:
    """The model and the hook, if they are recorded."""
    recorded = {**settings, **(settings.get("metadata") or {})}
    hook = recorded.get("hook_name") or recorded.get("hook_point")
    return hooked(recorded.get("model_name"), hook) if isinstance(hook, str) else None


def _current(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings as the newest known version names them."""
    metadata = settings.get("metadata") or {}
    version = settings.get("sae_lens_version") or metadata.get("sae_lens_version")
    if version is None:  # not written before version 6
        return _before_6(settings, path)
    major = str(version).partition(".")[0]
    if not major.isdecimal() or int(major) > NEWEST:
        raise InputError(
            f"{path / SETTINGS} is from SAELens {version!r}; versions up to {NEWEST} can be read"
        )
    if int(major) < NEWEST:
        return _before_6(settings, path)
    return {**settings, "architecture": setting(settings, "architecture", str, path)}


def _before_6(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    function = settings.get("activation_fn_str") or settings.get("activation_fn") or "relu"
    current = {"architecture": "standard", **settings}
    if function == "topk":
        options = settings.get("activation_fn_kwargs") or {}
        current |= {"architecture": "topk", "k": options.get("k")}
    elif function != "relu":
        raise unsupported(f"the activation {function!r} of SAELens", ("relu", "topk"), path)
    if isinstance(normalize := settings.get("normalize_activations"), bool):
        current["normalize_activations"] = "expected_average_only_in" if normalize else "none"
    return current


def _k(settings: dict[str, Any], path: Path) -> dict[str, int]:
    """The k, if the kind has one."""
    if not KINDS[ARCHITECTURES[settings["architecture"]]].selects:
        return {}
    k = settings.get("k")
    if isinstance(k, bool) or not isinstance(k, (int, float)) or not float(k).is_integer():
        raise InputError(
            f"k in {path / SETTINGS} must be a whole number, found {k!r}; a batchtopk with another "
            "k can be read after SAELens saved it for inference (save_inference_model)"
        )
    return {"k": int(k)}


def _set_scale(sae: SparseAutoencoder, settings: dict[str, Any], path: Path) -> None:
    """Take over a factor of the activations that is not yet folded into the weights."""
    normalization = settings.get("normalize_activations") or "none"
    if normalization == "none" or normalization in NORMALIZATIONS:
        return
    if normalization != "expected_average_only_in":
        supported = ("none", "expected_average_only_in", *NORMALIZATIONS)
        raise unsupported(f"normalize_activations={normalization!r}", supported, path)
    file = path / SCALER
    factor = json.loads(file.read_text()).get("scaling_factor") if file.is_file() else None
    if not isinstance(factor, (int, float)):
        raise InputError(
            f"the activations of {path} were multiplied by an unknown factor: expected a {SCALER} "
            f"with a scaling_factor beside {SETTINGS}"
        )
    sae.scale_in.fill_(factor)
    sae.scale_out.fill_(factor)


@torch.no_grad()
def _fill(sae: SparseAutoencoder, tensors: Tensors, settings: dict[str, Any], path: Path) -> None:
    """Set the weights, with each option folded into them."""
    config, kind = sae.config, sae.kind
    encoder = tensors.take("W_enc", config.d_in, config.d_sae)
    sae.W_dec.copy_(tensors.take("W_dec", config.d_sae, config.width_out))
    sae.b_dec.copy_(tensors.take("b_dec", config.width_out))
    bias = tensors.take(kind.saelens_bias, config.d_sae)
    if sae.W_skip is not None:
        sae.W_skip.copy_(tensors.take("W_skip", config.width_out, config.d_in))
    if settings.get("rescale_acts_by_decoder_norm"):
        norm = torch.linalg.vector_norm(sae.W_dec, dim=1)
        encoder, bias = encoder * norm, bias * norm
        sae.W_dec.div_(norm[:, None])
    kind.load_saelens_(tensors, bias)
    subtracted = settings.get("apply_b_dec_to_input", True)
    if not config.is_transcoder and not subtracted:
        bias = bias + sae.b_dec @ encoder
    sae.encoder.weight.copy_(encoder.T)
    sae.encoder.bias.copy_(bias)
    if "scaling_factor" in tensors:  # from older versions; all ones without finetuning
        factor = tensors.take("scaling_factor", config.d_sae)
        if not torch.allclose(factor, torch.ones_like(factor)):
            raise unsupported("a finetuning scaling_factor", ("autoencoders without one",), path)
    tensors.end()
