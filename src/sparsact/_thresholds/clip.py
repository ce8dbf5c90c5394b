"""Clipping to a box, with a gradient to its bounds."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact._thresholds.arguments import (
    Sides,
    Threshold,
    broadcast_threshold,
    check_broadcast,
    check_input,
    holds_everywhere,
    level_like,
    restrict,
    sum_to,
    values_can_be_read,
    widen,
)
from sparsact._thresholds.fused import as_tensor, backward_is_fused, forward_is_fused
from sparsact._thresholds.saving import keep, kept
from sparsact.kernels._library import define


def clip(
    x: Tensor,
    lambd: Threshold | None = None,
    *,
    lo: Threshold | None = None,
    hi: Threshold | None = None,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Clip: ``clamp(x, −λ, λ)``, or ``clamp(x, lo, hi)`` for a box.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`; excludes `lo`
            and `hi`.
        lo: lower bound (any sign), or None for none.
        hi: upper bound (any sign), or None for none. ``lo=0`` with a learned `hi` is PACT.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`; NaN stays NaN. Clipping makes no zeros.

    Gradient:
        exact, and never both to `x` and to a bound: ``∂x = 1[lo < x < hi]``,
        ``∂hi = 1[x ≥ hi]``, ``∂lo = 1[x ≤ lo]``, so ``∂λ = 1[x ≥ λ] − 1[x ≤ −λ]``.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: no bound, λ together with a bound, λ negative, NaN bounds, ``lo > hi``.

    Example:
        >>> clip(torch.tensor([-3.0, 0.2, 3.0]), 1.0)
        tensor([-1.0000,  0.2000,  1.0000])
        >>> clip(torch.tensor([-3.0, 0.2, 9.0]), lo=0.0, hi=6.0)
        tensor([0.0000, 0.2000, 6.0000])

    Source:
        Choi et al., "PACT: Parameterized Clipping Activation" (2018), eqs. 1-2, whose gradient
        at the bound goes to the bound as here.
    """
    check_input(x, "clip")
    if lambd is not None:
        if lo is not None or hi is not None:
            raise ValueError("clip takes lambd, or lo and hi, not both")
        hi = broadcast_threshold(lambd, x)
        lo = -hi
    elif lo is None and hi is None:
        raise ValueError("clip needs a bound: lambd, lo or hi")
    else:
        lo = _as_bound(-torch.inf if lo is None else lo, x, "lo")
        hi = _as_bound(torch.inf if hi is None else hi, x, "hi")
        _check_order(lo, hi)
    clipped: Tensor = _Clip.apply(x, lo, hi)
    return restrict(x, clipped, sides, mask, zero_other)


def _as_bound(value: Threshold, x: Tensor, name: str) -> Threshold:
    if isinstance(value, Tensor):
        check_broadcast(value, x, name)
        return value
    if value != value:
        raise ValueError(f"{name} must not be NaN")
    return float(value)


def _check_order(lo: Threshold, hi: Threshold) -> None:
    readable = all(values_can_be_read(bound) for bound in (lo, hi) if isinstance(bound, Tensor))
    if readable and not holds_everywhere(lo <= hi):
        raise ValueError(f"clip needs lo <= hi everywhere, got lo={lo}, hi={hi}")


class _Clip(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lo: Threshold, hi: Threshold) -> Tensor:
        if forward_is_fused(x, lo, hi):
            clipped: Tensor = torch.ops.sparsact.clip(x, as_tensor(lo), as_tensor(hi))
            return clipped
        return _clamp(x, lo, hi)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Threshold, Threshold], output: Tensor
    ) -> None:
        keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, (lo, hi) = kept(ctx)
        needed = ctx.needs_input_grad
        if not backward_is_fused(grad, x, lo, hi):
            return _clamp_back(grad, x, lo, hi, needed)
        grads = torch.ops.sparsact.clip_backward(grad, x, as_tensor(lo), as_tensor(hi))
        grad_x, grad_lo, grad_hi = grads
        return grad_x, grad_lo if needed[1] else None, grad_hi if needed[2] else None


def _clamp(x: Tensor, lo: Threshold, hi: Threshold) -> Tensor:
    wide = widen(x)
    lo, hi = level_like(lo, wide), level_like(hi, wide)
    return torch.minimum(torch.maximum(wide, lo), hi).to(x.dtype)


def _clamp_back(
    grad: Tensor, x: Tensor, lo: Any, hi: Any, needed: tuple[bool, ...] = (True,) * 3
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    wide = widen(x)
    below, above = wide <= level_like(lo, wide), wide >= level_like(hi, wide)
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
)
