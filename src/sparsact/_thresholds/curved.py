"""Shrinkage that returns to the identity along a curve: garrote and half."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact._thresholds.arguments import (
    Sides,
    Threshold,
    broadcast_threshold,
    check_input,
    level_like,
    restrict,
    sum_to,
    widen,
)
from sparsact._thresholds.saving import keep, kept
from sparsact._thresholds.shrink import soft_part, where_nonzero


def garrote(
    x: Tensor,
    lambd: Threshold = 0.5,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Non-negative garrote: ``x·max(0, 1 − λ²/x²)``.

    The proximal operator of ``¼(y√(y² + 4λ²) − y²) + λ²·asinh(y/2λ)``, ``y = |x|``.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0, and so
        does ``x = λ = 0`` (``pywt.threshold`` gives NaN there). NaN stays NaN.

    Gradient:
        exact, from the output alone, which determines x outside the band:
        ``∂x = 1 + λ²/x²``, ``∂λ = −2λ/x``; both 0 in the band.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast.

    Example:
        >>> garrote(torch.tensor([-2.0, 0.2, 1.0, 4.0]), 1.0)
        tensor([-1.5000,  0.0000,  0.0000,  3.7500])

    Source:
        Breiman, "Better subset regression using the nonnegative garrote", Technometrics 37
        (1995); Gao, "Wavelet shrinkage denoising using the non-negative garrote", JCGS 7 (1998).
    """
    check_input(x, "garrote")
    shrunk: Tensor = _Garrote.apply(x, broadcast_threshold(lambd, x))
    return restrict(x, shrunk, sides, mask, zero_other)


def halfshrink(
    x: Tensor,
    lambd: Threshold = 0.5,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Half shrinkage: 0 up to λ, else ``⅔x(1 + cos(⅔·acos(−(3^1.5/4)·u·|x|^−1.5)))``.

    The proximal operator of ``u√|x|`` (the L½ penalty), given by its cut-off λ, for which
    ``u = (λ/1.5)^1.5``. The output jumps from 0 to ⅔λ at the cut-off.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, the cut-off: a float or a tensor that broadcasts to the shape of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0 (both 0
        and ⅔λ minimise there). λ = 0 is the identity. NaN stays NaN.

    Gradient:
        exact outside the band, from the output y alone: with ``s = (λ/1.5)/|y|``,
        ``∂x = 1/(1 − s^1.5/4)`` and ``∂λ = −sign(y)·(√s/2)·∂x``. The jump gives none.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast.

    Example:
        >>> halfshrink(torch.tensor([-3.0, 1.0, 1.01]), 1.0)
        tensor([-2.8385,  0.0000,  0.6799])

    Source:
        Xu et al., "L1/2 regularization: a thresholding representation theory and a fast
        solver", IEEE TNNLS 23 (2012), theorem 1, whose objective has no ½ before the square:
        their λ is 2u.
    """
    check_input(x, "halfshrink")
    shrunk: Tensor = _Halfshrink.apply(x, broadcast_threshold(lambd, x))
    return restrict(x, shrunk, sides, mask, zero_other)


class _Garrote(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold) -> Tensor:
        wide = widen(x)
        level = level_like(lambd, wide)
        # (|x| − λ)(1 + λ/|x|), because 1 − λ²/x² cancels near the edge
        return (soft_part(wide, level) * (1 + _ratio(wide, level))).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Threshold], output: Tensor) -> None:
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        output, (lambd,) = kept(ctx)
        wide = _nonzero(widen(output))
        level = level_like(lambd, wide)
        live = where_nonzero(grad, output)
        # λ/|x|, for the x that solves y = x − λ²/x
        ratio = 2 * level / (wide.abs() + torch.hypot(wide, 2 * level))
        grad_x = (live * (1 + ratio * ratio)).to(output.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        return grad_x, sum_to(-2 * wide.sign() * ratio * live, lambd)


class _Halfshrink(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold) -> Tensor:
        wide = widen(x)
        level = level_like(lambd, wide)
        ratio = _ratio(wide, level)
        # The book's formula with acos(−a) = π/2 + asin(a): its factor then is at most 1, and
        # exactly 1 for λ = 0. The argument a is at most 1/√2, since λ/|x| < 1.
        angle = torch.asin(ratio * ratio.sqrt() / math.sqrt(2)) * (2 / 3)
        loss = torch.sin(angle / 2).square() * (2 / 3) + torch.sin(angle) / math.sqrt(3)
        return torch.where(wide.abs() <= level, 0.0, wide * (1 - loss)).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Threshold], output: Tensor) -> None:
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        output, (lambd,) = kept(ctx)
        wide = widen(output)
        level = level_like(lambd, wide)
        # y = 0 stands for the whole band, where the result is not used but must be finite
        share = level / 1.5 / torch.where(wide == 0, level + 1, wide.abs())
        root = share.sqrt()
        live = where_nonzero(grad, output) / (1 - share * root / 4)
        grad_x = live.to(output.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        return grad_x, sum_to(-wide.sign() * root * live / 2, lambd)


def _ratio(wide: Tensor, level: Tensor) -> Tensor:
    """``λ/|x|`` outside the band, 0 inside."""
    magnitude = wide.abs()
    return level / torch.where(magnitude <= level, torch.inf, magnitude)


def _nonzero(wide: Tensor) -> Tensor:
    """`wide` with 1 for 0: a value where any formula is finite and its result is not used."""
    return torch.where(wide == 0, 1.0, wide)
