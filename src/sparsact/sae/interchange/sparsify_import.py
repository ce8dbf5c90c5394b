"""Reading what sparsify wrote."""

from pathlib import Path
from typing import Any

import torch

from sparsact.sae.config import SAEConfig
from sparsact.sae.interchange.foreign import SETTINGS, Tensors, refuse, setting
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.read import read_object

WEIGHTS = "sae.safetensors"

USED = {"d_in", "k", "num_latents", "expansion_factor", "transcode", "activation"}
ONLY_IN_TRAINING = {"normalize_decoder", "multi_topk"}


def load_sparsify(path: str | Path) -> SparseAutoencoder:
    """Read an autoencoder or transcoder that sparsify saved.

    Args:
        path: the directory of ``cfg.json`` and ``sae.safetensors``: of one hookpoint.

    Returns:
        a top-k autoencoder, or transcoder, in float32 and eval mode.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: another activation than topk, a skip connection, an option or a tensor that is
            not known.

    Source:
        ``SparseCoder`` of eai-sparsify 1.3 (https://github.com/EleutherAI/sparsify); checked
        against files and outputs that it made.
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
    )
    sae = SparseAutoencoder(config)
    with torch.no_grad():
        sae.encoder.weight.copy_(tensors.take("encoder.weight", d_sae, d_in))
        sae.encoder.bias.copy_(tensors.take("encoder.bias", d_sae))
        sae.W_dec.copy_(tensors.take("W_dec", d_sae, d_in))
        sae.b_dec.copy_(tensors.take("b_dec", d_in))
    tensors.end()
    sae.is_fresh = False
    return sae.eval()


def _check(settings: dict[str, Any], path: Path) -> None:
    activation = settings.get("activation", "topk")
    if activation != "topk":
        raise refuse(f"the activation {activation!r} of sparsify", ("topk",), path)
    others = [
        f"{name}={value!r}"
        for name, value in settings.items()
        if name not in USED | ONLY_IN_TRAINING and value
    ]
    if others:
        raise ValueError(
            f"{path / SETTINGS} sets {', '.join(others)}, which this reader does not know or "
            "cannot follow: a top-k autoencoder or transcoder without a skip connection is read"
        )
