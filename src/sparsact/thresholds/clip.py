"""Clipping: function, autograd function and module."""

from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.definition import define
from sparsact.thresholds.arguments import (
    Sides,
    broadcast_threshold,
    check_broadcast,
    check_input,
    narrow,
    restrict,
    widen,
    widen_like,
)
from sparsact.thresholds.backward import keep, kept, sum_to
from sparsact.thresholds.complex_modulus import check_sides, clip_modulus, is_complex
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.fused_dispatch import as_tensor, backward_is_fused, forward_is_fused
from sparsact.thresholds.straight_through import zero_with_slope
from sparsact.thresholds.threshold_module import ThresholdModule
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def clip(
    x: Tensor,
    lambd: float | Tensor | None = None,
    *,
    lo: float | Tensor | None = None,
    hi: float | Tensor | None = None,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Clip: ``clamp(x, −λ, λ)``, or ``clamp(x, lo, hi)`` for a box.

    Args:
        x: any shape, floating point or complex. The modulus of complex entries is clipped; it
            has no bounds `lo` and `hi`.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`. Cannot be combined
            with `lo` or `hi`.
        lo: lower bound of any sign; None for no lower bound.
        hi: upper bound of any sign; None for no upper bound. ``lo=0`` with a learned `hi` is PACT.
            If a bound is a tensor, `hi` counts where ``lo > hi``, as in ``torch.clamp``.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. NaN stays NaN. Clipping creates no zeros.

    Gradient:
        exact: ``∂x = 1[lo < x < hi]``, ``∂hi = 1[x ≥ hi]``, ``∂lo = 1[x ≤ lo]``, so
        ``∂λ = 1[x ≥ λ] − 1[x ≤ −λ]``. At a bound the gradient goes to the bound, not to `x`.

    Raises:
        TypeError: `x` is neither floating point nor complex.
        ValueError: there is no bound, λ comes together with a bound, a float λ is negative or not
            finite, a float bound is NaN, two float bounds have ``lo > hi``, or a bound does not
            broadcast.

    Example:
        >>> clip(torch.tensor([-3.0, 0.2, 3.0]), 1.0)
        tensor([-1.0000,  0.2000,  1.0000])
        >>> clip(torch.tensor([-3.0, 0.2, 9.0]), lo=0.0, hi=6.0)
        tensor([0.0000, 0.2000, 6.0000])

    Source:
        Choi et al., "PACT: Parameterized Clipping Activation" (2018), eqs. 1-2, with the same
        gradient at the bound.
    """
    if is_complex(x):
        moduli = _clip_complex(x, lambd, lo, hi, sides)
        return restrict(x, moduli, "both", mask, zero_other)
    check_input(x, "clip")
    if lambd is not None:
        if lo is not None or hi is not None:
            raise InputError("clip takes lambd=, or lo= and hi=, not both")
        hi = broadcast_threshold(lambd, x)
        lo = -hi
    elif lo is None and hi is None:
        raise InputError("clip needs a bound: lambd=, lo= or hi=")
    else:
        lo = _as_bound(-torch.inf if lo is None else lo, x, "lo")
        hi = _as_bound(torch.inf if hi is None else hi, x, "hi")
        lo = _below(lo, hi)
    clipped: Tensor = _Clip.run(x, lo, hi)
    return restrict(x, clipped, sides, mask, zero_other)


class Clip(ThresholdModule):
    """Clip to ``[−λ, λ]``, or to ``[lo, λ]``; see :func:`sparsact.functional.clip`.

    Args:
        lambd: the (initial) upper bound λ ≥ 0. It and the arguments not listed here are those of
            :class:`ThresholdModule`. The gradient of a learned λ is exact.
        lo: a fixed lower bound instead of −λ. ``Clip(6.0, learnable=True, lo=0.0)`` is PACT.

    There is no ``init_from``, because clipping sets no entries to zero.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Clip(1.0)(torch.tensor([-3.0, 0.2]))
        tensor([-1.0000,  0.2000])
    """

    def __init__(
        self,
        lambd: float | Tensor = 1.0,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        lo: float | None = None,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim)
        self.lo = lo

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        if self.lo is None:
            return clip(x, self.threshold(x), mask=mask)
        if self.lo > 0:
            return clip(x, lo=self.lo, hi=self.threshold(x), mask=mask)
        check_input(x, "clip")  # λ ≥ 0 cannot lie below `lo`, which need not be compared with it
        return restrict(x, _Clip.run(x, self.lo, self.threshold(x)), "both", mask, False)

    def extra_repr(self) -> str:
        """λ, and the lower bound if it is not −λ."""
        floor = "" if self.lo is None else f", lo={self.lo:g}"
        return super().extra_repr() + floor


def _clip_complex(x: Tensor, lambd: Any, lo: Any, hi: Any, sides: Sides) -> Tensor:
    check_sides(sides)
    if lambd is None or lo is not None or hi is not None:
        raise InputError("clip limits the modulus of a complex input: pass lambd=, not lo= or hi=")
    return clip_modulus(x, broadcast_threshold(lambd, x))


def _as_bound(value: float | Tensor, x: Tensor, name: str) -> float | Tensor:
    if isinstance(value, Tensor):
        check_broadcast(value, x, name)
        return value
    if value != value:
        raise InputError(f"{name}= must not be NaN")
    return float(value)


def _below(lo: Any, hi: Any) -> float | Tensor:
    """`lo`, but `hi` where it lies above `hi`; two numbers in the wrong order raise."""
    if isinstance(lo, Tensor) or isinstance(hi, Tensor):
        apart = not isinstance(lo, Tensor) and lo == -torch.inf
        bound: float | Tensor = lo if apart else torch.where(lo > hi, hi, lo)
        return bound
    if lo > hi:
        raise InputError(f"clip needs lo <= hi, got lo={lo}, hi={hi}")
    return float(lo)


class _Clip(DifferentiableFunction):
    @staticmethod
    def forward(x: Tensor, lo: float | Tensor, hi: float | Tensor) -> Tensor:
        if forward_is_fused(x, lo, hi):
            clipped: Tensor = torch.ops.sparsact.clip(x, as_tensor(lo, x), as_tensor(hi, x))
            return clipped
        return _clamp(x, lo, hi)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, float | Tensor], output: Tensor
    ) -> None:
        keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, (lo, hi) = kept(ctx)
        needed = ctx.needs_input_grad
        if not backward_is_fused(grad, x, lo, hi):
            return _clamp_back(grad, x, lo, hi, needed)
        grads = torch.ops.sparsact.clip_backward(grad, x, as_tensor(lo, x), as_tensor(hi, x))
        grad_x, grad_lo, grad_hi = grads
        return grad_x, grad_lo if needed[1] else None, grad_hi if needed[2] else None

    @classmethod
    def composite(cls, x: Tensor, lo: float | Tensor, hi: float | Tensor) -> Tensor:
        """The forward, with the gradients of backward where an entry equals a bound."""
        wide = widen(x)
        below, above = wide <= widen_like(lo, wide), wide >= widen_like(hi, wide)
        step = zero_with_slope(wide, (~(below | above)).to(wide.dtype))
        step = step + zero_with_slope(lo, below.to(wide.dtype))
        step = step + zero_with_slope(hi, above.to(wide.dtype))
        return _clamp(x, lo, hi).detach() + step.to(x.dtype)


def _clamp(x: Tensor, lo: float | Tensor, hi: float | Tensor) -> Tensor:
    wide = widen(x)
    lo, hi = widen_like(lo, wide), widen_like(hi, wide)
    return narrow(torch.minimum(torch.maximum(wide, lo), hi), x)


def _clamp_back(
    grad: Tensor, x: Tensor, lo: Any, hi: Any, needed: tuple[bool, ...] = (True,) * 3
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    wide = widen(x)
    below, above = wide <= widen_like(lo, wide), wide >= widen_like(hi, wide)
    return (
        torch.where(below | above, 0.0, grad),
        sum_to(torch.where(below, grad, 0.0), lo) if needed[1] else None,
        sum_to(torch.where(above, grad, 0.0), hi) if needed[2] else None,
    )


define(
    "clip",
    "(Tensor x, Tensor lo, Tensor hi) -> Tensor",
    _clamp,
    lambda x, lo, hi: torch.empty_like(x),
    cpu="clip",
    gpu="shrink",
)
define(
    "clip_backward",
    "(Tensor grad, Tensor x, Tensor lo, Tensor hi) -> (Tensor, Tensor, Tensor)",
    _clamp_back,
    lambda grad, x, lo, hi: (
        torch.empty_like(x),
        lo.new_empty(lo.shape),
        hi.new_empty(hi.shape),
    ),
    cpu="clip",
    gpu="shrink",
)
