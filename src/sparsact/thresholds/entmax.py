"""Sparsemax and α-entmax: softmax with exact zeros. Functions, autograd function and modules."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_input, narrow, widen
from sparsact.thresholds.backward import keep, kept
from sparsact.thresholds.entmax_alpha import entmax_by_bisection, entmax_of_each_row
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.tracing import Unscriptable, leaf, one_node


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
def entmax(x: Tensor, alpha: float | Tensor = 1.5, dim: int = -1) -> Tensor:
    """Tsallis α-entmax: ``max((α − 1)x − τ, 0)^(1/(α − 1))`` with the τ that makes the sum 1.

    α = 1 is softmax, α = 2 is :func:`sparsemax`; a larger α gives more zeros.

    Args:
        x: scores, any shape, floating point.
        alpha: α ≥ 1. For the numbers 1.5 and 2, τ is found by sorting, exactly; else by bisection,
            to the precision of float64. A tensor has one value per row: it broadcasts to `x`, with
            size 1 at `dim`. It is used as ``1 + |α − 1|``, at least 1 + 1e-6, and is never read.
        dim: the dim along which the probabilities sum to 1.

    Returns:
        probabilities of the shape and dtype of `x`; for α > 1 low scores give exactly 0. A score
        of −inf gives 0. A row with NaN, +inf or only −inf gives NaN.

    Gradient:
        exact: with ``s = p^(2 − α)`` on the support, ``s·(g − Σsg/Σs)``. For a number α only the
        output is kept for backward. A tensor α gets its exact gradient; for α − 1 < 1e-4 its limit
        at α = 1, which is nearer than the rounding of the formula.

    Raises:
        TypeError: `x` or a tensor α is not floating point. Complex numbers have no order.
        ValueError: α is a number below 1 or not finite, a tensor that does not broadcast, or the
            dim does not exist.

    Example:
        >>> entmax(torch.tensor([1.0, 0.5, -2.0]))
        tensor([0.6740, 0.3260, 0.0000])

    Source:
        Peters, Niculae & Martins, "Sparse sequence-to-sequence models" (2019), eq. 7,
        algorithms 1 and 2, proposition 2; for ∂α Correia, Niculae & Martins, "Adaptively sparse
        transformers" (2019), proposition 1.
    """
    check_input(x, "entmax")
    if not isinstance(alpha, Tensor):
        _check_alpha(alpha)
    if not -max(x.ndim, 1) <= dim < max(x.ndim, 1):
        raise InputError(f"dim={dim} does not exist in an input of shape {tuple(x.shape)}")
    if x.numel() == 0:
        return x.clone()
    if isinstance(alpha, Tensor):
        return entmax_of_each_row(x, alpha, dim)
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

    A learned α is the parameter ``alpha`` of shape (num_parameters,), used as ``1 + |α − 1|``.

    Args:
        alpha: the (initial) α ≥ 1; above 1 if it is learned.
        dim: the dim along which the probabilities sum to 1.
        learnable: make α a parameter. All α, 1.5 and 2 too, then use bisection.
        num_parameters: 1, or the number of channels for one α per channel, such as a head.
        channel_dim: the dim of the input that holds the channels, if there are several α.

    Raises:
        ValueError: α or `num_parameters` is below 1. At a forward: the input does not have
            `num_parameters` channels at `channel_dim`.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Entmax(1.5)(torch.tensor([1.0, 0.5, -2.0]))
        tensor([0.6740, 0.3260, 0.0000])
        >>> heads = Entmax(1.5, learnable=True, num_parameters=8)
        >>> heads(torch.randn(2, 8, 10, 10)).shape  # batch, heads, queries, keys
        torch.Size([2, 8, 10, 10])
    """

    alpha: float | Tensor

    def __init__(
        self,
        alpha: float = 1.5,
        dim: int = -1,
        *,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
    ) -> None:
        super().__init__()
        _check_alpha(alpha)
        self.num_parameters = as_integer(num_parameters, "num_parameters")
        self.channel_dim = as_integer(channel_dim, "channel_dim")
        self.learnable = learnable
        if self.num_parameters < 1:
            raise InputError(f"num_parameters= must be at least 1, got {num_parameters}")
        if learnable and alpha == 1:
            raise InputError("alpha= of a learned α must be above 1: at 1, softmax, it has a kink")
        if not learnable and self.num_parameters > 1:
            raise InputError("num_parameters= is for a learned α: set learnable=True")
        start = torch.full((self.num_parameters,), float(alpha))
        self.alpha = nn.Parameter(start) if learnable else float(alpha)
        self.dim = as_integer(dim, "dim")

    @leaf
    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to `x`."""
        alpha = self.alpha
        return entmax(x, self._per_row(x, alpha) if isinstance(alpha, Tensor) else alpha, self.dim)

    def _per_row(self, x: Tensor, alpha: Tensor) -> Tensor:
        n, dim = self.num_parameters, self.channel_dim
        if n == 1:
            return alpha.reshape(())
        if not -x.ndim <= dim < x.ndim or x.shape[dim] != n:
            raise InputError(
                f"num_parameters={n} does not fit dim {dim} of the input of shape {tuple(x.shape)}"
            )
        shape = [1] * x.ndim
        shape[dim] = n
        return alpha.reshape(shape)

    def extra_repr(self) -> str:
        """α (the mean of several), how it is held, and the dim."""
        alpha = self.alpha
        mean = alpha.detach().mean().item() if isinstance(alpha, Tensor) else alpha
        parts = [f"alpha={mean:.4g}", f"dim={self.dim}"]
        if self.learnable:
            parts.append("learnable=True")
        if self.num_parameters > 1:
            parts.append(f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}")
        return ", ".join(parts)


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
            probabilities = entmax_by_bisection(scores, 1 / (alpha - 1), dim)
        return narrow(probabilities, x)

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
