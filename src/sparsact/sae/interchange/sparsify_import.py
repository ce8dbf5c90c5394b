"""Reading what sparsify wrote."""

import re
from pathlib import Path
from typing import Any

import torch

from sparsact._common.errors import InputError
from sparsact.sae.interchange.foreign_files import SETTINGS, Tensors, setting, unsupported
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import read_object

WEIGHTS = "sae.safetensors"

USED = {"d_in", "k", "num_latents", "expansion_factor", "transcode", "activation"}
HOOKPOINT = re.compile(r"(?:layers|h|blocks)\.\d+(?:\.[\w.]+)?")
"""Names of directories that are names of modules."""
ONLY_IN_TRAINING = {"normalize_decoder", "multi_topk"}


def load_sparsify(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder or transcoder that sparsify saved.

    Args:
        path: the directory of one hookpoint, with ``cfg.json`` and ``sae.safetensors``.

    Returns:
        a top-k autoencoder, or transcoder, in float32 and eval mode.

    Raises:
        MissingInputError: a FileNotFoundError: a file is missing.
        InputError: a ValueError: another activation than topk, a skip connection in an
            autoencoder, or an unknown option or tensor.

    Source:
        ``SparseCoder`` of eai-sparsify 1.3 (https://github.com/EleutherAI/sparsify); checked
        against files and outputs of that library.
    """
    path = Path(path)
    settings, tensors = read_object(path / SETTINGS), Tensors(path / WEIGHTS)
    _check(settings, path)
    d_in = setting(settings, "d_in", int, path)
    d_sae = settings.get("num_latents") or d_in * setting(settings, "expansion_factor", int, path)
    config = SAEConfig(
        d_in=d_in,
        d_sae=d_sae,
        activation="topk",
        k=setting(settings, "k", int, path),
        d_out=d_in if settings.get("transcode") else None,
        skip=bool(settings.get("skip_connection")),
    )
    sae = SparseAutoencoder(config)
    with torch.no_grad():
        sae.encoder.weight.copy_(tensors.take("encoder.weight", d_sae, d_in))
        sae.encoder.bias.copy_(tensors.take("encoder.bias", d_sae))
        sae.W_dec.copy_(tensors.take("W_dec", d_sae, d_in))
        sae.b_dec.copy_(tensors.take("b_dec", d_in))
        if sae.W_skip is not None:
            sae.W_skip.copy_(tensors.take("W_skip", d_in, d_in))
    tensors.end()
    sae.is_fresh = False
    if HOOKPOINT.fullmatch(path.name):
        sae.trained_on = TrainedOn(layer=path.name)
    return sae.eval()


def _check(settings: dict[str, Any], path: Path) -> None:
    activation = settings.get("activation", "topk")
    if activation != "topk":
        raise unsupported(f"the activation {activation!r} of sparsify", ("topk",), path)
    known = USED | ONLY_IN_TRAINING | ({"skip_connection"} if settings.get("transcode") else set())
    unknown_settings = [
        f"{name}={value!r}" for name, value in settings.items() if name not in known and value
    ]
    if unknown_settings:
        raise InputError(
            f"{path / SETTINGS} sets {', '.join(unknown_settings)}, which is not supported: only "
            "top-k autoencoders, and transcoders with or without a skip connection, can be read"
        )
