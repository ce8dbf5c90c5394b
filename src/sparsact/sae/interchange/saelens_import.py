"""Reading what SAELens wrote."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact.nn import BatchTopK, JumpReLU
from sparsact.sae.config import Kind, SAEConfig
from sparsact.sae.gated import GatedReLU
from sparsact.sae.interchange.foreign import SETTINGS, Tensors, refuse, setting
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.read import read_object

WEIGHTS = "sae_weights.safetensors"
SCALER = "activation_scaler.json"
NEWEST = 6
"""Major version of SAELens up to which the files are known."""

KINDS: dict[str, Kind] = {
    "standard": "relu",
    "topk": "topk",
    "batchtopk": "batch_topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
}


def load_saelens(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder that SAELens saved, for inference or from a training.

    Latents and reconstructions are those of SAELens: norms of decoder rows that the encoder is
    to be multiplied by (``rescale_acts_by_decoder_norm``) are folded into the weights, and so is
    the decoder's bias where it is not subtracted from the input (``apply_b_dec_to_input``). A
    factor for the activations that is still apart from the weights becomes the scale of the
    module. Where SAELens reshapes heads (``hook_z``), this takes rows of all heads together.

    Args:
        path: the directory of ``cfg.json`` and ``sae_weights.safetensors``.

    Returns:
        the autoencoder in float32 and eval mode. A ``batchtopk`` has its k per row on average in
        training mode and its threshold in eval mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an architecture, an option, a version or a tensor that is not known; they are
            standard, topk, batchtopk, jumprelu, gated, transcoder and jumprelu_transcoder.

    Source:
        the classes of SAELens 6.54 (https://github.com/decoderesearch/SAELens) for what each
        setting means; checked against files and outputs that it made.
    """
    path = Path(path)
    settings, tensors = read_object(path / SETTINGS), Tensors(path / WEIGHTS)
    settings = _current(settings, path)
    architecture = settings["architecture"]
    if architecture not in KINDS:
        raise refuse(f"the architecture {architecture!r} of SAELens", KINDS, path)
    is_transcoder = architecture.endswith("transcoder")
    sae = SparseAutoencoder(
        SAEConfig(
            d_in=setting(settings, "d_in", int, path),
            d_sae=setting(settings, "d_sae", int, path),
            activation=KINDS[architecture],
            d_out=setting(settings, "d_out", int, path) if is_transcoder else None,
            **_chosen_k(settings, path),
        )
    )
    _set_scale(sae, settings, path)
    _fill(sae, tensors, settings, path)
    sae.is_fresh = False
    return sae.eval()


def _current(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings as the newest known version names them."""
    metadata = settings.get("metadata") or {}
    version = settings.get("sae_lens_version") or metadata.get("sae_lens_version")
    if version is None:  # before 6 it was not written
        return _before_6(settings, path)
    major = str(version).partition(".")[0]
    if not major.isdecimal() or int(major) > NEWEST:
        raise ValueError(
            f"{path / SETTINGS} is of SAELens {version!r}; versions up to {NEWEST} are read"
        )
    if int(major) < NEWEST:
        return _before_6(settings, path)
    return {**settings, "architecture": setting(settings, "architecture", str, path)}


def _before_6(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    function = settings.get("activation_fn_str") or settings.get("activation_fn") or "relu"
    current = {"architecture": "standard", **settings}
    if function == "topk":
        chosen = settings.get("activation_fn_kwargs") or {}
        current |= {"architecture": "topk", "k": chosen.get("k")}
    elif function != "relu":
        raise refuse(f"the activation {function!r} of SAELens", ("relu", "topk"), path)
    if isinstance(normalize := settings.get("normalize_activations"), bool):
        current["normalize_activations"] = "expected_average_only_in" if normalize else "none"
    return current


def _chosen_k(settings: dict[str, Any], path: Path) -> dict[str, int]:
    if settings["architecture"] not in ("topk", "batchtopk"):
        return {}
    k = settings.get("k")
    if isinstance(k, bool) or not isinstance(k, (int, float)) or not float(k).is_integer():
        raise ValueError(
            f"k in {path / SETTINGS} must be a whole number, found {k!r}; a batchtopk of another "
            "k is read once SAELens saved it for inference (save_inference_model)"
        )
    return {"k": int(k)}


def _set_scale(sae: SparseAutoencoder, settings: dict[str, Any], path: Path) -> None:
    """Take over a factor of the activations that is not folded into the weights yet."""
    way = settings.get("normalize_activations") or "none"
    if way == "none":
        return
    if way != "expected_average_only_in":
        raise refuse(f"normalize_activations={way!r}", ("none", "expected_average_only_in"), path)
    file = path / SCALER
    factor = json.loads(file.read_text()).get("scaling_factor") if file.is_file() else None
    if not isinstance(factor, (int, float)):
        raise ValueError(
            f"the activations of {path} were multiplied by a factor that is not there: expected "
            f"a {SCALER} with a scaling_factor beside {SETTINGS}"
        )
    sae.scale_in.fill_(factor)
    sae.scale_out.fill_(factor)


@torch.no_grad()
def _fill(sae: SparseAutoencoder, tensors: Tensors, settings: dict[str, Any], path: Path) -> None:
    """Put the weights where they belong, each option folded into them."""
    config = sae.config
    encoder = tensors.take("W_enc", config.d_in, config.d_sae)
    sae.W_dec.copy_(tensors.take("W_dec", config.d_sae, config.width_out))
    sae.b_dec.copy_(tensors.take("b_dec", config.width_out))
    bias = tensors.take("b_gate" if config.activation == "gated" else "b_enc", config.d_sae)
    if settings.get("rescale_acts_by_decoder_norm"):
        norm = torch.linalg.vector_norm(sae.W_dec, dim=1)
        encoder, bias = encoder * norm, bias * norm
        sae.W_dec.div_(norm[:, None])
    _set_levels(sae, tensors, bias)
    subtracted = settings.get("apply_b_dec_to_input", True)
    if not config.is_transcoder and not subtracted:
        bias = bias + sae.b_dec @ encoder
    sae.encoder.weight.copy_(encoder.T)
    sae.encoder.bias.copy_(bias)
    if "scaling_factor" in tensors:  # of an older finetuning; all ones where there was none
        factor = tensors.take("scaling_factor", config.d_sae)
        if not torch.allclose(factor, torch.ones_like(factor)):
            raise refuse("a finetuning scaling_factor", ("autoencoders without one",), path)
    tensors.end()


def _set_levels(sae: SparseAutoencoder, tensors: Tensors, gate_bias: Tensor) -> None:
    activation, d_sae = sae.activation, sae.config.d_sae
    if isinstance(activation, JumpReLU):
        level = _thresholds(tensors, d_sae)
        assert isinstance(activation.lambd, Tensor)
        activation.lambd.copy_(level.clamp(min=0))  # below 0 theirs is relu, as at 0
    elif isinstance(activation, BatchTopK):
        activation.running_threshold.copy_(tensors.take("topk_threshold"))
        activation.num_batches_tracked.fill_(1)
    elif isinstance(activation, GatedReLU):
        activation.log_scale.copy_(tensors.take("r_mag", d_sae))
        shift = activation.log_scale.exp() * gate_bias
        activation.bias.copy_(tensors.take("b_mag", d_sae) - shift)


def _thresholds(tensors: Tensors, d_sae: int) -> Tensor:
    if "log_threshold" in tensors:  # of older trainings
        return tensors.take("log_threshold", d_sae).exp()
    return tensors.take("threshold", d_sae)
