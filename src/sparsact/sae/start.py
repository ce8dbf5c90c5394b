"""Where a training starts from: the scale of its inputs, and the decoder's bias."""

import math

import torch
from torch import Tensor

from sparsact.sae.geometry import geometric_median
from sparsact.sae.model import SparseAutoencoder


@torch.no_grad()
def start_(sae: SparseAutoencoder, x: Tensor, target: Tensor, normalize_input: bool) -> None:
    """Prepare an autoencoder for training, from the first batch.

    A fresh one gets the scale that makes the mean norm of the rows √d, and the geometric median
    as b_dec. Any other is brought to that scale and to rows of length 1, as training keeps them,
    and computes what it did.

    Args:
        sae: changed in place.
        x: (n, d_in), raw.
        target: (n, d_out), raw.
        normalize_input: whether the scale is set.

    Raises:
        ValueError: all rows are zero, or too large; the lengths of a trained dictionary's rows
            cannot be moved.
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
    """What makes the mean norm of the rows √d."""
    mean: Tensor = torch.linalg.vector_norm(x.float(), dim=1).mean()
    if not bool(mean > 0):
        raise ValueError("the first batch is all zero: it has no scale")
    if not bool(mean.isfinite()):
        raise ValueError("the rows of the first batch are too large: their norm overflows")
    return math.sqrt(x.shape[1]) / mean
