"""α-entmax by bisection, and its gradient to α."""

from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import check_broadcast, magnitude, narrow
from sparsact.thresholds.backward import keep, kept, sum_to
from sparsact.thresholds.forward_mode import DifferentiableFunction

_BISECTIONS = 60
_NEAREST = 1e-6
_LIMIT = 1e-4


def entmax_of_each_row(x: Tensor, alpha: Tensor, dim: int) -> Tensor:
    """Entmax with a tensor α, which gets a gradient; see :func:`sparsact.functional.entmax`."""
    if not alpha.is_floating_point():
        raise TypeError(f"alpha= must be a number or a floating-point tensor, got {alpha.dtype}")
    check_broadcast(alpha, x, "alpha")
    spread = x.ndim - alpha.ndim
    along = dim % max(x.ndim, 1) - spread
    if alpha.ndim and along >= 0 and alpha.shape[along] != 1:
        raise InputError(
            f"alpha= has one value per row, so its size at dim {dim} must be 1, not "
            f"{alpha.shape[along]}"
        )
    excess = magnitude(alpha - 1).clamp(min=_NEAREST)
    probabilities: Tensor = _EntmaxOfAlpha.run(x, excess, dim)
    return probabilities


def entmax_by_bisection(scores: Tensor, power: float | Tensor, dim: int) -> Tensor:
    """``max(scores − τ, 0)^power``; τ lies in [−1, 0], because the largest score is 0."""
    wide = scores.double()
    low = torch.full_like(wide.amax(dim, keepdim=True), -1.0)
    width = 1.0
    for _ in range(_BISECTIONS):
        width /= 2
        total = ((wide - low - width).relu() ** power).sum(dim, keepdim=True)
        low = torch.where(total >= 1, low + width, low)
    result = (wide - low).relu() ** power
    return (result / result.sum(dim, keepdim=True)).to(scores.dtype)


class _EntmaxOfAlpha(DifferentiableFunction):
    """Entmax of `x` and ``excess = α − 1``; backward computes the probabilities again in float64.

    The formula of ∂α divides differences of probabilities by (α − 1)², so those of the output, in
    float32 or less, would not do.
    """

    @staticmethod
    def forward(x: Tensor, excess: Tensor, dim: int) -> Tensor:
        return narrow(_probabilities(x, excess, dim), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        x, excess, ctx.dim = inputs
        keep(ctx, x, excess)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, (excess,) = kept(ctx)
        wide, probabilities = excess.double(), _probabilities(x, excess, ctx.dim)
        grad_x = _times_jacobian(probabilities, wide, ctx.dim, grad).to(x.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None
        return grad_x, sum_to(grad * _slope_in_alpha(probabilities, wide, ctx.dim), excess), None

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """The Jacobian in `x` is symmetric; that in α is one column for each row of `x`."""
        primal, (excess,) = kept(ctx)
        wide, probabilities = excess.double(), _probabilities(primal, excess, ctx.dim)
        result = torch.zeros_like(probabilities)
        if isinstance(x, Tensor):
            result = result + _times_jacobian(probabilities, wide, ctx.dim, x)
        if levels and isinstance(levels[0], Tensor):
            result = result + levels[0] * _slope_in_alpha(probabilities, wide, ctx.dim)
        return result.to(primal.dtype)


def _probabilities(x: Tensor, excess: Tensor, dim: int) -> Tensor:
    wide, factor = x.double(), excess.double()
    scores = (wide - wide.amax(dim, keepdim=True)) * factor
    return entmax_by_bisection(scores, 1 / factor, dim)


def _skewed(probabilities: Tensor, excess: Tensor) -> Tensor:
    """``p^(2 − α)`` on the support, else 0."""
    live = probabilities != 0
    return torch.where(live, torch.where(live, probabilities, 1.0) ** (1 - excess), 0.0)


def _times_jacobian(probabilities: Tensor, excess: Tensor, dim: int, vector: Tensor) -> Tensor:
    slope = _skewed(probabilities, excess)
    weighted = slope * vector
    return weighted - slope * weighted.sum(dim, keepdim=True) / slope.sum(dim, keepdim=True)


def _slope_in_alpha(probabilities: Tensor, excess: Tensor, dim: int) -> Tensor:
    """∂p/∂α, by the formula of Correia et al. or, near α = 1, by its limit there."""
    skewed = _skewed(probabilities, excess)
    skewed = skewed / skewed.sum(dim, keepdim=True)
    logarithm = torch.where(probabilities > 0, probabilities, 1.0).log()
    entropy = probabilities * logarithm
    formula = (probabilities - skewed) / excess.square()
    formula = formula - (entropy - skewed * entropy.sum(dim, keepdim=True)) / excess
    square = logarithm.square()
    mean = (probabilities * square).sum(dim, keepdim=True)
    limit = probabilities * (mean - square) / 2
    return torch.where(excess < _LIMIT, limit, formula)
