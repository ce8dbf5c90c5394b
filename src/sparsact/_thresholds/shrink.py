"""Shrinkage: entries inside a closed band around zero become exactly zero."""

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
from sparsact._thresholds.fused import as_tensor, backward_is_fused, forward_is_fused
from sparsact._thresholds.saving import keep, kept
from sparsact._thresholds.straight_through import (
    Kernel,
    check_bandwidth,
    check_kernel,
    window,
)
from sparsact.kernels._library import define

_aten = torch.ops.aten
_sparsact = torch.ops.sparsact


def softshrink(
    x: Tensor,
    lambd: Threshold = 0.5,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Soft shrinkage: ``sign(x)·max(|x| − λ, 0)``, the proximal operator of ``λ|x|``.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.
            With ``sides="positive"`` this is the one-sided ``relu(x − λ)``.

    Returns:
        a tensor of the shape and dtype of `x`. Sides are compared in float32 (float64 for
        float64) with λ unrounded; the band is closed: ``|x| = λ`` gives 0. NaN stays NaN.

    Gradient:
        exact. ``∂x = 1[|x| > λ]``, ``∂λ = −sign(x)·1[|x| > λ]``. The support is read from the
        output, so forward and backward always agree on it (torch's own softshrink compares in
        float32 forward but in bfloat16 backward), and the output is all that is kept: changing
        it in place before backward raises, as after ``torch.relu``. With λ = 0 the gradient at
        x = 0 is 0.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast.

    Example:
        >>> softshrink(torch.tensor([-2.0, 0.2, 0.5, 1.0]), 0.5)
        tensor([-1.5000,  0.0000,  0.0000,  0.5000])

    Source:
        Donoho, "De-noising by soft-thresholding", IEEE Trans. Inf. Theory 41 (1995).
    """
    check_input(x, "softshrink")
    lambd = broadcast_threshold(lambd, x)
    shrunk: Tensor = _Softshrink.apply(x, lambd)
    return restrict(x, shrunk, sides, mask, zero_other)


def hardshrink(
    x: Tensor,
    lambd: Threshold = 0.5,
    *,
    bandwidth: float = 0.05,
    kernel: Kernel = "rectangle",
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Hard shrinkage: ``x·1[|x| > λ]``, the proximal operator of ``(λ²/2)·‖x‖₀``.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        bandwidth: ε > 0, width of the window around ±λ in which λ receives a gradient.
        kernel: shape K_ε of that window, of area 1 and height 1/ε:
            ``"rectangle"`` is ``1[|d| < ε/2]/ε``, ``"triangle"`` is ``max(1 − |d|/ε, 0)/ε``,
            ``"sigmoid"`` is ``(4/ε)·σ(4d/ε)·σ(−4d/ε)``, which reaches every input.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. The band is closed: ``|x| = λ`` gives 0, as in
        torch and unlike ``pywt.threshold``, which keeps it. In half precision λ is not rounded
        to the input's dtype before the comparison, as torch rounds it. NaN stays NaN.

    Gradient:
        ``∂x = 1[|x| > λ]``, exact. ``∂λ`` is 0 almost everywhere, so a tensor λ that requires a
        gradient gets a straight-through one:
        ``−sign(x)·λ·K_ε(|x| − λ)``, with the rectangle ``−sign(x)·(λ/ε)·1[ | |x| − λ | < ε/2 ]``;
        for that the input is kept, and otherwise only the output.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast; ε is not positive;
            the kernel is unknown.

    Example:
        >>> hardshrink(torch.tensor([-2.0, -0.5, 0.2, 1.0]), 0.5)
        tensor([-2.,  0.,  0.,  1.])

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81
        (1994); the gradient of λ follows Rajamanoharan et al., "Jumping Ahead" (2024), eq. 11,
        mirrored to both signs, where
        the rectangle is the kernel.
    """
    check_input(x, "hardshrink")
    check_bandwidth(bandwidth)
    check_kernel(kernel)
    lambd = broadcast_threshold(lambd, x)
    shrunk: Tensor = _Hardshrink.apply(x, lambd, bandwidth, kernel)
    return restrict(x, shrunk, sides, mask, zero_other)


class _Softshrink(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold) -> Tensor:
        learned, half = isinstance(lambd, Tensor), x.dtype in (torch.bfloat16, torch.float16)
        if (learned or half) and forward_is_fused(x, lambd):
            return _sparsact.softshrink(x, as_tensor(lambd))  # type: ignore[no-any-return]
        if learned or torch.compiler.is_compiling():
            return _soft(x, lambd)  # the decomposition of torch's own turns NaN into 0
        # torch's own takes one pass; in half precision its releases round λ in different ways
        shrunk: Tensor = _aten.softshrink(widen(x), lambd)
        return shrunk.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Threshold], output: Tensor) -> None:
        keep(ctx, output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        output, (lambd,) = kept(ctx)
        if not ctx.needs_input_grad[1]:
            return where_nonzero(grad, output), None
        fused = backward_is_fused(grad, output, lambd)
        return (_sparsact.softshrink_backward if fused else _soft_back)(grad, output, lambd)


class _Hardshrink(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, lambd: Threshold, bandwidth: float, kernel: Kernel) -> Tensor:
        if isinstance(lambd, Tensor):
            fused = forward_is_fused(x, lambd)
            return (_sparsact.hardshrink if fused else _hard)(x, lambd)
        if torch.compiler.is_compiling():
            return _hard(x, lambd)
        shrunk: Tensor = _aten.hardshrink(x, _representable(lambd, x.dtype))
        return shrunk

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Threshold, float, Kernel], output: Tensor
    ) -> None:
        x, lambd, ctx.bandwidth, ctx.kernel = inputs
        ctx.learns = ctx.needs_input_grad[1]  # the window reaches into the band: it needs x
        keep(ctx, x if ctx.learns else output, lambd)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        saved, (lambd,) = kept(ctx)
        if not ctx.learns:
            return where_nonzero(grad, saved), None, None, None
        fused = backward_is_fused(grad, saved, lambd)
        back = _sparsact.hardshrink_backward if fused else _hard_back
        return *back(grad, saved, lambd, ctx.bandwidth, ctx.kernel), None, None


def _soft(x: Tensor, lambd: Threshold) -> Tensor:
    wide = widen(x)
    return soft_part(wide, level_like(lambd, wide)).to(x.dtype)


def _soft_back(grad: Tensor, output: Tensor, lambd: Tensor) -> tuple[Tensor, Tensor]:
    grad_x = where_nonzero(grad, output)
    return grad_x, sum_to(-grad_x * output.sign(), lambd)


def _hard(x: Tensor, lambd: Threshold) -> Tensor:
    return torch.where(_in_band(x, lambd), 0.0, x)


def _hard_back(
    grad: Tensor, x: Tensor, lambd: Tensor, bandwidth: float, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    grad_x = torch.where(_in_band(x, lambd), 0.0, grad)
    wide = widen(x)
    level = level_like(lambd, wide)
    slope = level * window(wide.abs() - level, bandwidth, kernel)
    return grad_x, sum_to(-wide.sign() * slope * grad, lambd)


def soft_part(wide: Tensor, level: Tensor) -> Tensor:
    """``S_λ(x)`` as ``x − clamp(x, −λ, λ)``: exactly 0 in the closed band and nowhere else."""
    return wide - torch.clamp(wide, -level, level)


def where_nonzero(grad: Tensor, output: Tensor) -> Tensor:
    """`grad` where `output` is not zero (NaN is not), else 0: one pass over both."""
    return _aten.hardshrink_backward(grad, output, 0.0)  # type: ignore[no-any-return]


def _representable(lambd: float, dtype: torch.dtype) -> float:
    """The largest value of `dtype` up to λ: torch would round λ, which moves the band."""
    if dtype in (torch.float32, torch.float64):
        return lambd
    level = torch.tensor(lambd)
    rounded = level.to(dtype)
    if rounded.to(level.dtype) > level:
        rounded = torch.nextafter(rounded, torch.zeros_like(rounded))
    return rounded.item()


def _in_band(x: Tensor, lambd: Threshold) -> Tensor:
    wide = widen(x)
    return wide.abs() <= level_like(lambd, wide)


define(
    "softshrink",
    "(Tensor x, Tensor level) -> Tensor",
    _soft,
    lambda x, level: torch.empty_like(x),
    cpu="shrink",
)
define(
    "softshrink_backward",
    "(Tensor grad, Tensor output, Tensor level) -> (Tensor, Tensor)",
    _soft_back,
    lambda grad, output, level: (torch.empty_like(output), level.new_empty(level.shape)),
    cpu="shrink",
)
define(
    "hardshrink",
    "(Tensor x, Tensor level) -> Tensor",
    _hard,
    lambda x, level: torch.empty_like(x),
    cpu="shrink",
)
define(
    "hardshrink_backward",
    "(Tensor grad, Tensor x, Tensor level, float bandwidth, str kernel) -> (Tensor, Tensor)",
    _hard_back,
    lambda grad, x, level, *_: (torch.empty_like(x), level.new_empty(level.shape)),
    cpu="shrink",
)
