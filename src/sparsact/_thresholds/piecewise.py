"""Shrinkage that returns to the identity in straight lines: firm and SCAD."""

import math
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
from sparsact._thresholds.saving import keep, kept
from sparsact._thresholds.shrink import soft_part, where_nonzero


def firmshrink(
    x: Tensor,
    lambd: Threshold = 0.5,
    upper: Threshold = 1.0,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Firm shrinkage: 0 up to λ, ``sign(x)·μ(|x| − λ)/(μ − λ)`` up to μ, then x.

    The proximal operator, with step τ < γ, of the minimax concave penalty MCP(α, γ), for
    ``λ = ατ`` and ``μ = αγ``.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        upper: μ ≥ λ, a float or a tensor that broadcasts to the shape of `x`. ``μ = inf`` is
            soft shrinkage, ``μ = λ`` is hard shrinkage, entry by entry.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0. NaN
        stays NaN.

    Gradient:
        exact, from the output alone. For ``λ < |x| < μ``: ``∂x = μ/(μ − λ)``,
        ``∂λ = −sign(x)·μ(μ − |x|)/(μ − λ)²``, ``∂μ = −sign(x)·λ(|x| − λ)/(μ − λ)²``; beyond,
        ``∂x = 1``. With ``μ = λ`` neither bound receives a gradient:
        :func:`sparsact.functional.hardshrink` has a straight-through one.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, μ < λ or NaN, or one does not broadcast. For
            tensors this is checked in eager mode on the CPU; elsewhere μ < λ acts as μ = λ.

    Example:
        >>> firmshrink(torch.tensor([-2.0, 0.5, 0.75, 1.0]), 0.5, 1.0)
        tensor([-2.0000,  0.0000,  0.5000,  1.0000])

    Source:
        Gao & Bruce, "WaveShrink with firm shrinkage", Statistica Sinica 7 (1997), eq. 2.4;
        Zhang, "Nearly unbiased variable selection under minimax concave penalty" (2010).
    """
    check_input(x, "firmshrink")
    lambd = broadcast_threshold(lambd, x)
    upper = _check_upper(upper, lambd, x)
    shrunk: Tensor = _Firmshrink.apply(x, lambd, upper)
    return restrict(x, shrunk, sides, mask, zero_other)


def scad(
    x: Tensor,
    lambd: Threshold = 0.5,
    a: float = 3.7,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """SCAD shrinkage: soft up to 2λ, ``((a − 1)x − sign(x)·aλ)/(a − 2)`` up to aλ, then x.

    The proximal operator, with step 1, of the smoothly clipped absolute deviation penalty.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        a: a > 2; beyond aλ the input passes unchanged.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0. NaN
        stays NaN.

    Gradient:
        exact, from the output alone. ``∂x`` is 0, 1, ``(a − 1)/(a − 2)``, 1 on the four pieces,
        ``∂λ = −sign(x)·{0, 1, a/(a − 2), 0}``.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast; a is not above 2.

    Example:
        >>> scad(torch.tensor([-4.0, -0.75, 0.5, 1.5]), 0.5, a=4.0)
        tensor([-4.0000, -0.2500,  0.0000,  1.2500])

    Source:
        Fan & Li, "Variable selection via nonconcave penalized likelihood and its oracle
        properties", JASA 96 (2001), eq. 2.8, where a = 3.7 is suggested.
    """
    check_input(x, "scad")
    check_a(a)
    lambd = broadcast_threshold(lambd, x)
    shrunk: Tensor = _Scad.apply(x, lambd, float(a))
    return restrict(x, shrunk, sides, mask, zero_other)


def check_a(a: float) -> None:
    """Raise unless `a` is a valid second parameter of SCAD: finite and above 2."""
    if not 2 < a < math.inf:
        raise ValueError(f"a must be above 2 and finite, got {a}")


def _check_upper(upper: Threshold, lambd: Threshold, x: Tensor) -> Threshold:
    if isinstance(upper, Tensor):
        check_broadcast(upper, x, "upper")
    else:
        upper = float(upper)
    tensors = [level for level in (lambd, upper) if isinstance(level, Tensor)]
    readable = all(values_can_be_read(level) for level in tensors)
    if readable and not holds_everywhere(upper >= lambd):
        raise ValueError(f"firmshrink needs upper >= lambd everywhere, got {upper} and {lambd}")
    return upper


class _Firmshrink(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold, upper: Threshold) -> Tensor:
        wide = widen(x)
        level, cap = level_like(lambd, wide), level_like(upper, wide)
        steep = soft_part(wide, level) * (1 + _excess(level, cap))
        magnitude = wide.abs()
        passes = (magnitude >= cap) & (magnitude > level)
        return torch.where(passes, wide, steep).to(x.dtype)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Threshold, Threshold], output: Tensor
    ) -> None:
        keep(ctx, output, *inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        output, (lambd, upper) = kept(ctx)
        wide = widen(output)
        level, cap = level_like(lambd, wide), level_like(upper, wide)
        live, excess = where_nonzero(grad, output), _excess(level, cap)
        between = wide.abs() < cap
        grad_x = (live * torch.where(between, 1 + excess, 1.0)).to(output.dtype)
        grad_lambd = grad_upper = None
        signed = -wide.sign() * torch.where(between, live, 0.0)
        share = torch.where(between, wide.abs(), 0.0) / torch.where(cap > 0, cap, 1.0)
        if ctx.needs_input_grad[1]:
            grad_lambd = sum_to(signed * (1 + excess) * (1 - share), lambd)
        if ctx.needs_input_grad[2]:
            grad_upper = sum_to(signed * excess * share, upper)
        return grad_x, grad_lambd, grad_upper


def _excess(level: Tensor, cap: Tensor) -> Tensor:
    """Slope between λ and μ, minus 1: ``λ/(μ − λ)``; 0 for μ = inf, and for μ ≤ λ."""
    gap = cap - level
    return level / torch.where(gap > 0, gap, torch.inf)


class _Scad(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold, a: float) -> Tensor:
        wide = widen(x)
        level = level_like(lambd, wide)
        soft = soft_part(wide, level)
        # beyond 2λ; not a second clamp, after which torch's ONNX exporter loses an input
        steep = soft + soft.sign() * (soft.abs() - level).relu() / (a - 2)
        magnitude = wide.abs()
        passes = (magnitude >= a * level) & (magnitude > level)
        return torch.where(passes, wide, steep).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Threshold, float], output: Tensor) -> None:
        ctx.a = inputs[2]
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        output, (lambd,) = kept(ctx)
        wide = widen(output)
        level = level_like(lambd, wide)
        live, magnitude = where_nonzero(grad, output), wide.abs()
        steep = (magnitude > level) & (magnitude < ctx.a * level)
        slope = torch.where(steep, (ctx.a - 1) / (ctx.a - 2), 1.0)
        grad_x = (live * slope).to(output.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None
        pull = torch.where(steep, ctx.a / (ctx.a - 2), (magnitude <= level).to(wide.dtype))
        return grad_x, sum_to(-wide.sign() * pull * live, lambd), None
