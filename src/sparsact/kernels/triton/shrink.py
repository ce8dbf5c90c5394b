"""Shrinkage, JumpReLU and clipping; backward also sums the gradients of λ or of the bounds."""

from torch import Tensor

from sparsact.kernels.triton.threshold_kernels import CLIP, HARD, JUMP, SOFT
from sparsact.kernels.triton.threshold_levels import backward, forward

_WINDOWS = {"rectangle": 0, "triangle": 1, "sigmoid": 2}


def softshrink(x: Tensor, level: Tensor) -> Tensor:
    """``sign(x)·max(|x| − λ, 0)``."""
    return forward(SOFT, x, level)


def softshrink_backward(grad: Tensor, output: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and λ, computed from the output."""
    grad_x, (grad_level,) = backward(SOFT, grad, output, level)
    return grad_x, grad_level


def hardshrink(x: Tensor, level: Tensor) -> Tensor:
    """``x·1[|x| > λ]``."""
    return forward(HARD, x, level)


def hardshrink_backward(
    grad: Tensor, x: Tensor, level: Tensor, bandwidth: float, kernel: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and of λ, the latter through a window of this width and shape."""
    window = _WINDOWS[kernel]
    grad_x, (grad_level,) = backward(HARD, grad, x, level, bandwidth=bandwidth, window=window)
    return grad_x, grad_level


def jumprelu(x: Tensor, level: Tensor) -> Tensor:
    """``x·1[x > θ]``."""
    return forward(JUMP, x, level)


def jumprelu_backward(
    grad: Tensor, x: Tensor, level: Tensor, bandwidth: float, kernel: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and of θ, the latter through a window of this width and shape."""
    window = _WINDOWS[kernel]
    grad_x, (grad_level,) = backward(JUMP, grad, x, level, bandwidth=bandwidth, window=window)
    return grad_x, grad_level


def clip(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """``clamp(x, lo, hi)``."""
    return forward(CLIP, x, lo, hi)


def clip_backward(grad: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `x` and of both bounds."""
    grad_x, (grad_lo, grad_hi) = backward(CLIP, grad, x, lo, hi)
    return grad_x, grad_lo, grad_hi
