"""Batches for training and measuring: inputs, or pairs of inputs and targets."""

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.sae_model import SparseAutoencoder

Batch = Tensor | tuple[Tensor, Tensor]
"""(batch, d_in), or for a transcoder the pair of inputs and targets."""


def as_pair(batch: Batch, sae: SparseAutoencoder) -> tuple[Tensor, Tensor]:
    """Inputs (batch, d_in) and targets (batch, d_out), on the device of the autoencoder.

    Raises:
        InputError: a ValueError: a pair for an autoencoder, one tensor for a transcoder, or
            another width.
    """
    config = sae.config
    if isinstance(batch, Tensor) == config.is_transcoder:
        expected = "a pair (input, target)" if config.is_transcoder else "one tensor"
        raise InputError(f"each batch must be {expected} for this autoencoder")
    x, target = (batch, batch) if isinstance(batch, Tensor) else batch
    for name, tensor, width in (("input", x, config.d_in), ("target", target, config.width_out)):
        if tensor.ndim != 2 or tensor.shape[1] != width:
            raise InputError(
                f"each {name} batch must be (batch, {width}), got {tuple(tensor.shape)}"
            )
    device = sae.W_dec.device
    return x.to(device), target.to(device)
