"""Clipping in one pass over memory; backward also sums the gradients of the bounds."""

from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, function
from sparsact.kernels.cpu.threshold_levels import CUT, backward, forward

_clip = function("clip", *CUT, *(ADDRESS, ADDRESS, ADDRESS, ADDRESS))
_clip_backward = function("clip_backward", *CUT, *(ADDRESS,) * 7)


def clip(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """``clamp(x, lo, hi)``."""
    return forward(_clip, x, lo, hi)


def clip_backward(grad: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `x` and of both bounds."""
    grad_x, (grad_lo, grad_hi) = backward(_clip_backward, grad, x, lo, hi)
    return grad_x, grad_lo, grad_hi
