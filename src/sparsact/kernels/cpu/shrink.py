"""Shrinkage in one pass over memory; backward also sums the gradient of λ."""

from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, INTEGER, REAL, function
from sparsact.kernels.cpu.threshold_levels import CUT, backward, forward

_WINDOWS = {"rectangle": 0, "triangle": 1, "sigmoid": 2}

_softshrink = function("softshrink", *CUT, *(ADDRESS, ADDRESS, ADDRESS))
_hardshrink = function("hardshrink", *CUT, *(ADDRESS, ADDRESS, ADDRESS))
_softshrink_backward = function("softshrink_backward", *CUT, *(ADDRESS,) * 5)
_hardshrink_backward = function("hardshrink_backward", *CUT, *(ADDRESS,) * 5, REAL, INTEGER)


def softshrink(x: Tensor, level: Tensor) -> Tensor:
    """``sign(x)·max(|x| − λ, 0)``."""
    return forward(_softshrink, x, level)


def softshrink_backward(grad: Tensor, output: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and λ, computed from the output."""
    grad_x, (grad_level,) = backward(_softshrink_backward, grad, output, level)
    return grad_x, grad_level


def hardshrink(x: Tensor, level: Tensor) -> Tensor:
    """``x·1[|x| > λ]``."""
    return forward(_hardshrink, x, level)


def hardshrink_backward(
    grad: Tensor, x: Tensor, level: Tensor, bandwidth: float, kernel: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and of λ, the latter through a window of this width and shape."""
    window = (bandwidth, _WINDOWS[kernel])
    grad_x, (grad_level,) = backward(_hardshrink_backward, grad, x, level, window=window)
    return grad_x, grad_level
