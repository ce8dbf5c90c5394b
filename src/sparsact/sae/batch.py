"""What training and measuring are given: inputs, or pairs of inputs and targets."""

from torch import Tensor

from sparsact.sae.model import SparseAutoencoder

Batch = Tensor | tuple[Tensor, Tensor]
"""(batch, d_in), or for a transcoder the pair of inputs and targets."""


def as_pair(batch: Batch, sae: SparseAutoencoder) -> tuple[Tensor, Tensor]:
    """Inputs (batch, d_in) and targets (batch, d_out), on the device of the autoencoder.

    Raises:
        ValueError: a pair for an autoencoder, one tensor for a transcoder, or another width.
    """
    config = sae.config
    if isinstance(batch, Tensor) == config.is_transcoder:
        wanted = "a pair (input, target)" if config.is_transcoder else "one tensor"
        raise ValueError(f"each batch must be {wanted} for this autoencoder")
    x, target = (batch, batch) if isinstance(batch, Tensor) else batch
    for name, tensor, width in (("input", x, config.d_in), ("target", target, config.width_out)):
        if tensor.ndim != 2 or tensor.shape[1] != width:
            raise ValueError(
                f"each {name} batch must be (batch, {width}), got {tuple(tensor.shape)}"
            )
    device = sae.W_dec.device
    return x.to(device), target.to(device)
