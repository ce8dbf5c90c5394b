"""The starting point of a training: the scale of its inputs, and the decoder's bias."""

import math

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.geometry import geometric_median
from sparsact.sae.sae_model import SparseAutoencoder


@torch.no_grad()
def start_(sae: SparseAutoencoder, x: Tensor, target: Tensor, normalize_input: bool) -> None:
    """Prepare an autoencoder for training, from the first batch.

    A fresh one gets the scale for which the rows have mean norm √d, and their geometric median
    as b_dec. Any other is rescaled to that scale and to dictionary rows of length 1, without
    changing its outputs.

    Args:
        sae: changed in place.
        x: (n, d_in), raw.
        target: (n, d_out), raw.
        normalize_input: whether to set the scale.

    Raises:
        InputError: a ValueError: all rows are zero, or too large, or the lengths of a trained
            dictionary's rows cannot be moved into the encoder.
    """
    if not sae.is_fresh:
        sae.unit_rows_()
        if normalize_input:
            sae.rescale_(_unit_scale(x), _unit_scale(target))
        return
    if normalize_input:
        sae.scale_in.copy_(_unit_scale(x))
        sae.scale_out.copy_(_unit_scale(target))
    sae.b_dec.copy_(geometric_median(target * sae.scale_out))


def _unit_scale(x: Tensor) -> Tensor:
    """The factor that makes the mean norm of the rows √d."""
    mean: Tensor = torch.linalg.vector_norm(x.float(), dim=1).mean()
    if not bool(mean > 0):
        raise InputError("the first batch is all zero, so it has no scale")
    if not bool(mean.isfinite()):
        raise InputError("the rows of the first batch are too large: their norm overflows")
    return math.sqrt(x.shape[1]) / mean
