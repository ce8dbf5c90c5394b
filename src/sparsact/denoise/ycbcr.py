"""RGB and YCbCr, which separates brightness from colour: colour can be denoised more strongly."""

import torch
from torch import Tensor

# BT.601: luma, and the differences of blue and red from it, scaled to ±½
_FROM_RGB = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)


def to_ycbcr(rgb: Tensor, dim: int) -> Tensor:
    """RGB to YCbCr (ITU-R BT.601, full range, Cb and Cr around 0) along `dim`."""
    return _mix(rgb, dim, _matrix(rgb))


def to_rgb(ycbcr: Tensor, dim: int) -> Tensor:
    """The inverse of :func:`to_ycbcr`."""
    return _mix(ycbcr, dim, torch.linalg.inv(_matrix(ycbcr)))


def sigma_to_ycbcr(sigma: Tensor, dim: int) -> Tensor:
    """The noise of Y, Cb and Cr for independent noise of standard deviation `sigma` in R, G, B."""
    return _mix(sigma.square(), dim, _matrix(sigma).square()).sqrt()


def _matrix(like: Tensor) -> Tensor:
    return torch.tensor(_FROM_RGB, dtype=like.dtype, device=like.device)


def _mix(x: Tensor, dim: int, matrix: Tensor) -> Tensor:
    mixed: Tensor = torch.tensordot(x, matrix, dims=([dim], [1]))
    return mixed.movedim(-1, dim)
