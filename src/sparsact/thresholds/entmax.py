"""Sparsemax and α-entmax: softmax with exact zeros. Functions, autograd function and modules."""

import math
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_input, widen
from sparsact.thresholds.backward import keep, kept
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.tracing import Unscriptable, leaf, one_node

_BISECTIONS = 60


@one_node
def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """The nearest probabilities to `x`: ``max(x − τ, 0)`` with the τ that makes the sum 1.

    Args:
        x: scores, any shape, floating point.
        dim: the dim along which the probabilities sum to 1.

    Returns:
        probabilities of the shape and dtype of `x`; low scores give exactly 0. A score of −inf
        gives 0. A row with NaN, +inf or only −inf gives NaN.

    Gradient:
        exact: on the support, the gradient minus its mean over the support; 0 elsewhere. Only the
        output is kept for backward.

    Raises:
        TypeError: `x` is not floating point. Complex numbers have no order.
        ValueError: the dim does not exist.

    Example:
        >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0.7500, 0.2500, 0.0000])

    Source:
        Martins & Astudillo, "From softmax to sparsemax" (2016), algorithm 1 and eq. 11.
    """
    return entmax(x, 2.0, dim)


@one_node
def entmax(x: Tensor, alpha: float = 1.5, dim: int = -1) -> Tensor:
    """Tsallis α-entmax: ``max((α − 1)x − τ, 0)^(1/(α − 1))`` with the τ that makes the sum 1.

    α = 1 is softmax, α = 2 is :func:`sparsemax`; a larger α gives more zeros.

    Args:
        x: scores, any shape, floating point.
        alpha: α ≥ 1. For 1.5 and 2, τ is found by sorting, exactly; else by bisection, to the
            precision of float64.
        dim: the dim along which the probabilities sum to 1.

    Returns:
        probabilities of the shape and dtype of `x`; for α > 1 low scores give exactly 0. A score
        of −inf gives 0. A row with NaN, +inf or only −inf gives NaN.

    Gradient:
        exact: with ``s = p^(2 − α)`` on the support, ``s·(g − Σsg/Σs)``. Only the output is kept
        for backward. α receives none.

    Raises:
        TypeError: `x` is not floating point. Complex numbers have no order.
        ValueError: α is below 1 or not finite, or the dim does not exist.

    Example:
        >>> entmax(torch.tensor([1.0, 0.5, -2.0]))
        tensor([0.6740, 0.3260, 0.0000])

    Source:
        Peters, Niculae & Martins, "Sparse sequence-to-sequence models" (2019), eq. 7,
        algorithms 1 and 2, proposition 2.
    """
    check_input(x, "entmax")
    _check_alpha(alpha)
    if not -max(x.ndim, 1) <= dim < max(x.ndim, 1):
        raise InputError(f"dim={dim} does not exist in an input of shape {tuple(x.shape)}")
    if x.numel() == 0:
        return x.clone()
    if alpha == 1:
        return x.softmax(dim)
    probabilities: Tensor = _Entmax.run(x, float(alpha), dim)
    return probabilities


class Sparsemax(Unscriptable):
    """Sparsemax as a module; see :func:`sparsact.functional.sparsemax`.

    Args:
        dim: the dim along which the probabilities sum to 1.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Sparsemax()(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0.7500, 0.2500, 0.0000])
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = as_integer(dim, "dim")

    @leaf
    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to `x`."""
        return sparsemax(x, self.dim)

    def extra_repr(self) -> str:
        """The dim."""
        return f"dim={self.dim}"


class Entmax(Unscriptable):
    """α-entmax as a module; see :func:`sparsact.functional.entmax`.

    Args:
        alpha: α ≥ 1, fixed.
        dim: the dim along which the probabilities sum to 1.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Entmax(1.5)(torch.tensor([1.0, 0.5, -2.0]))
        tensor([0.6740, 0.3260, 0.0000])
    """

    def __init__(self, alpha: float = 1.5, dim: int = -1) -> None:
        super().__init__()
        _check_alpha(alpha)
        self.alpha = float(alpha)
        self.dim = as_integer(dim, "dim")

    @leaf
    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to `x`."""
        return entmax(x, self.alpha, self.dim)

    def extra_repr(self) -> str:
        """α and the dim."""
        return f"alpha={self.alpha:g}, dim={self.dim}"


def _check_alpha(alpha: float) -> None:
    if not 1 <= alpha < math.inf:
        raise InputError(f"alpha= must be at least 1 and finite, got {alpha}")


class _Entmax(DifferentiableFunction):
    @staticmethod
    def forward(x: Tensor, alpha: float, dim: int) -> Tensor:
        wide = widen(x)
        scores = (wide - wide.amax(dim, keepdim=True)) * (alpha - 1)
        if alpha == 2:
            probabilities = (scores - _sparsemax_level(scores, dim)).relu()
        elif alpha == 1.5:
            probabilities = (scores - _entmax15_level(scores, dim)).relu().square()
        else:
            probabilities = _by_bisection(scores, 1 / (alpha - 1), dim)
        return probabilities.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, int], output: Tensor) -> None:
        _, ctx.alpha, ctx.dim = inputs
        keep(ctx, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        output, _ = kept(ctx)
        wide = widen(output)
        live = wide != 0
        slope = torch.where(live, torch.where(live, wide, 1.0) ** (2 - ctx.alpha), 0.0)
        weighted = slope * grad
        mean = weighted.sum(ctx.dim, keepdim=True) / slope.sum(ctx.dim, keepdim=True)
        return (weighted - slope * mean).to(output.dtype), None, None

    @classmethod
    def composite(cls, x: Tensor, alpha: float, dim: int) -> Any:
        """The forward, where it has derivatives: bisection has none."""
        if alpha not in (1.5, 2):
            raise InputError(
                "torch.compile(torch.func.grad(...)) differentiates entmax with alpha=1.5 or 2, "
                f"not with {alpha}; compile inside the transform"
            )
        return cls.forward(x, alpha, dim)

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *levels: Any) -> Tensor:
        """The Jacobian is symmetric, so the tangent is what backward returns."""
        return cls.backward(ctx, x)[0]


def _ranks(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The scores in descending order, and 1, 2, … along `dim`."""
    ordered = scores.sort(dim, descending=True).values
    count = torch.ones_like(ordered).cumsum(dim)
    return ordered, count


def _sparsemax_level(scores: Tensor, dim: int) -> Tensor:
    """τ: ``(Σ_{i≤k} x_(i) − 1)/k`` with the largest k whose x_(k) lies above it."""
    ordered, count = _ranks(scores, dim)
    levels = (ordered.cumsum(dim) - 1) / count
    size = (ordered > levels).sum(dim, keepdim=True).clamp(min=1)
    return levels.gather(dim, size - 1) if scores.ndim else levels


def _entmax15_level(scores: Tensor, dim: int) -> Tensor:
    """τ: ``mean − √((1 − k·variance)/k)`` of the k largest, with the largest k that fits."""
    ordered, count = _ranks(scores, dim)
    finite = torch.where(ordered == -math.inf, -1e9, ordered)  # cumsum would give NaN
    mean = finite.cumsum(dim) / count
    square = finite.square().cumsum(dim) / count
    rest = (1 - count * (square - mean.square())) / count
    levels = mean - rest.clamp(min=0).sqrt()
    size = (levels <= ordered).sum(dim, keepdim=True).clamp(min=1)
    return levels.gather(dim, size - 1) if scores.ndim else levels


def _by_bisection(scores: Tensor, power: float, dim: int) -> Tensor:
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
