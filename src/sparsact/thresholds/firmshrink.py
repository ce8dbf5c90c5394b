"""Firm shrinkage: function, autograd function and module."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import (
    Sides,
    broadcast_threshold,
    check_broadcast,
    check_input,
    magnitude,
    narrow,
    restrict,
    values_can_be_read,
    widen,
    widen_like,
)
from sparsact.thresholds.backward import keep, kept, sum_to, where_nonzero
from sparsact.thresholds.complex_modulus import by_modulus, is_complex
from sparsact.thresholds.forward_mode import BandFunction
from sparsact.thresholds.softshrink import soft_part
from sparsact.thresholds.threshold_module import BandModule, mean_text
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def firmshrink(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    upper: float | Tensor = 1.0,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Firm shrinkage: 0 up to λ, ``sign(x)·μ(|x| − λ)/(μ − λ)`` up to μ, then x.

    With ``λ = ατ`` and ``μ = αγ`` it is the proximal operator, for a step τ < γ, of the minimax
    concave penalty MCP(α, γ).

    Args:
        x: any shape, floating point or complex. Complex entries are shrunk by modulus.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        upper: μ ≥ λ, a float or a tensor that broadcasts to the shape of `x`. ``μ = inf`` is
            soft shrinkage, ``μ = λ`` is hard shrinkage, entry by entry. A tensor μ is used as
            ``max(|μ|, |λ|)``.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0. NaN
        stays NaN.

    Gradient:
        exact. For ``λ < |x| < μ``: ``∂x = μ/(μ − λ)``, ``∂λ = −sign(x)·μ(μ − |x|)/(μ − λ)²``,
        ``∂μ = −sign(x)·λ(|x| − λ)/(μ − λ)²``; for ``|x| ≥ μ``: ``∂x = 1``. With ``μ = λ`` neither
        bound receives a gradient; :func:`sparsact.functional.hardshrink` has a straight-through
        one. Only the output is kept for backward.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: a float λ is negative or not finite, a float μ is NaN or below λ, or one of
            them does not broadcast.

    Example:
        >>> firmshrink(torch.tensor([-2.0, 0.5, 0.75, 1.0]), 0.5, 1.0)
        tensor([-2.0000,  0.0000,  0.5000,  1.0000])

    Source:
        Gao & Bruce, "WaveShrink with firm shrinkage", Statistica Sinica 7 (1997), eq. 2.4;
        Zhang, "Nearly unbiased variable selection under minimax concave penalty" (2010).
    """
    if is_complex(x):
        shrink = partial(firmshrink, lambd=lambd, upper=upper)
        return by_modulus(x, shrink, sides, mask, zero_other)
    check_input(x, "firmshrink")
    lambd = broadcast_threshold(lambd, x)
    upper = _check_upper(upper, lambd, x)
    shrunk: Tensor = _Firmshrink.run(x, lambd, upper)
    return restrict(x, shrunk, sides, mask, zero_other)


class Firmshrink(BandModule):
    """Firm shrinkage as a module; see :func:`sparsact.functional.firmshrink`.

    Args:
        lambd: the (initial) λ ≥ 0. It and the arguments not listed here are those of
            :class:`BandModule`.
        learnable: make λ and μ parameters; their gradients are exact.
        upper: the (initial) μ ≥ λ: inputs beyond it pass unchanged. A float, or a tensor of shape
            (num_parameters,). It is learned together with λ, and used as ``max(|μ|, |λ|)``;
            ``math.inf`` stays fixed.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Firmshrink(0.5, upper=1.0)(torch.tensor([-2.0, 0.75]))
        tensor([-2.0000,  0.5000])
    """

    level_names = ("lambd", "upper")
    upper: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        upper: float | Tensor = 1.0,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        order: Any = upper >= lambd
        readable = not isinstance(order, Tensor) or values_can_be_read(order)
        if readable and not torch.as_tensor(order, device="cpu").all():
            raise _upper_below_lambd(upper, lambd)
        if isinstance(upper, Tensor) or upper < math.inf:
            self._hold("upper", upper)
        else:
            self.upper = upper

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        lambd = self.threshold(x)
        return firmshrink(
            x,
            lambd,
            self._upper(lambd, x),
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def _upper(self, lambd: float | Tensor, x: Tensor) -> float | Tensor:
        """μ for an input `x`; a learned μ below λ acts as λ."""
        upper = self._broadcast_to(self._level_shape(x), self.upper)
        if isinstance(upper, Tensor) and isinstance(lambd, Tensor):
            return torch.maximum(upper, lambd)
        return upper

    def _set_from(self, sample: Tensor, sparsity: float) -> None:
        """Set λ from the sample. A finite μ keeps its ratio to λ, or its value if λ was 0."""
        if not isinstance(self.upper, Tensor) and math.isinf(self.upper):
            return super()._set_from(sample, sparsity)
        before = torch.as_tensor(self.lambd).abs().clone()
        super()._set_from(sample, sparsity)
        after = torch.as_tensor(self.lambd)
        scaled = torch.as_tensor(self.upper).abs() * torch.where(before > 0, after / before, 1.0)
        self._set("upper", torch.maximum(scaled, after))

    def extra_repr(self) -> str:
        """λ, where the function acts, and μ."""
        start = {} if self.num_parameters else self._start
        return super().extra_repr() + f", upper={mean_text(start.get('upper', self.upper))}"


def _check_upper(upper: float | Tensor, lambd: float | Tensor, x: Tensor) -> float | Tensor:
    """μ, or its magnitude if it is a tensor; below λ it acts as λ."""
    if isinstance(upper, Tensor):
        check_broadcast(upper, x, "upper")
        return magnitude(upper)
    if not upper >= (0 if isinstance(lambd, Tensor) else lambd):
        raise _upper_below_lambd(upper, lambd)
    return float(upper)


def _upper_below_lambd(upper: float | Tensor, lambd: float | Tensor) -> InputError:
    return InputError(
        f"firmshrink needs upper >= lambd everywhere, got upper={upper} and lambd={lambd}"
    )


class _Firmshrink(BandFunction):
    @staticmethod
    def forward(x: Tensor, lambd: float | Tensor, upper: float | Tensor) -> Tensor:
        wide = widen(x)
        wide_lambd, wide_upper = widen_like(lambd, wide), widen_like(upper, wide)
        steep = soft_part(wide, wide_lambd) * (1 + _excess(wide_lambd, wide_upper))
        magnitude = wide.abs()
        passes = (magnitude >= wide_upper) & (magnitude > wide_lambd)
        return narrow(torch.where(passes, wide, steep), x)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, float | Tensor], output: Tensor
    ) -> None:
        keep(ctx, output, *inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        output, (lambd, upper) = kept(ctx)
        wide = widen(output)
        wide_lambd, wide_upper = widen_like(lambd, wide), widen_like(upper, wide)
        live, excess = where_nonzero(grad, output), _excess(wide_lambd, wide_upper)
        between = wide.abs() < wide_upper
        grad_x = (live * torch.where(between, 1 + excess, 1.0)).to(output.dtype)
        grad_lambd = grad_upper = None
        signed = -wide.sign() * torch.where(between, live, 0.0)
        share = torch.where(between, wide.abs(), 0.0) / torch.where(wide_upper > 0, wide_upper, 1.0)
        if ctx.needs_input_grad[1]:
            grad_lambd = sum_to(signed * (1 + excess) * (1 - share), lambd)
        if ctx.needs_input_grad[2]:
            grad_upper = sum_to(signed * excess * share, upper)
        return grad_x, grad_lambd, grad_upper


def _excess(wide_lambd: Tensor, wide_upper: Tensor) -> Tensor:
    """The slope between λ and μ, minus 1: ``λ/(μ − λ)``; 0 for μ = inf and for μ ≤ λ."""
    gap = wide_upper - wide_lambd
    flat = (gap <= 0) | (wide_lambd == torch.inf)
    return torch.where(flat, 0.0, wide_lambd / torch.where(flat, 1.0, gap))
