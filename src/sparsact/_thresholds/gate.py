"""Gates: the input is multiplied by a step, or a smooth step, that opens at the threshold."""

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
from sparsact._thresholds.shrink import where_nonzero
from sparsact._thresholds.straight_through import (
    Kernel,
    check_bandwidth,
    check_kernel,
    window,
)


def jumprelu(
    x: Tensor,
    threshold: Threshold = 0.5,
    *,
    bandwidth: float = 0.05,
    kernel: Kernel = "rectangle",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """JumpReLU: ``x·1[x > θ]``, a ReLU whose step lies at θ.

    Args:
        x: any shape, floating point.
        threshold: θ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        bandwidth: ε > 0, width of the window around θ in which θ receives a gradient.
        kernel: shape K_ε of that window, of area 1 and height 1/ε:
            ``"rectangle"`` is ``1[|d| < ε/2]/ε``, ``"triangle"`` is ``max(1 − |d|/ε, 0)/ε``,
            ``"sigmoid"`` is ``(4/ε)·σ(4d/ε)·σ(−4d/ε)``, which reaches every input.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`; ``x = θ`` gives 0, NaN stays NaN.

    Gradient:
        ``∂x = 1[x > θ]``, exact. ``∂θ`` is straight-through: ``−θ·K_ε(x − θ)``, with
        the rectangle ``−(θ/ε)·1[|x − θ| < ε/2]``; for that the input is kept, and otherwise
        only the output.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: θ is negative or not finite, or does not broadcast; ε is not positive;
            the kernel is unknown.

    Example:
        >>> jumprelu(torch.tensor([-2.0, 0.3, 0.5, 1.0]), 0.5)
        tensor([0., 0., 0., 1.])

    Source:
        Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU
        Sparse Autoencoders" (2024), eqs. 2 and 11, where the rectangle is the kernel.
    """
    check_input(x, "jumprelu")
    check_bandwidth(bandwidth)
    check_kernel(kernel)
    threshold = broadcast_threshold(threshold, x, "threshold")
    gated: Tensor = _JumpReLU.apply(x, threshold, bandwidth, kernel)
    return restrict(x, gated, "both", mask, zero_other)


def sigmoid_gate(
    x: Tensor,
    lambd: Threshold = 0.5,
    temperature: float = 0.1,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Smooth gate: ``x·σ((|x| − λ)/T)``, which tends to hard shrinkage as T → 0.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        temperature: T > 0, in the units of `x`: the width of the transition.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`, with no exact zeros except where the sigmoid
        underflows. NaN stays NaN.

    Gradient:
        exact, by autograd, to `x` and λ.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: λ is negative or not finite, or does not broadcast; T is not positive.

    Example:
        >>> sigmoid_gate(torch.tensor([0.0, 0.5, 5.0]), 0.5, temperature=0.1)
        tensor([0.0000, 0.2500, 5.0000])
    """
    check_input(x, "sigmoid_gate")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    lambd = broadcast_threshold(lambd, x)
    wide = widen(x)
    gate = torch.sigmoid((wide.abs() - level_like(lambd, wide)) / temperature)
    gated = (wide * gate).to(x.dtype)
    return restrict(x, gated, sides, mask, zero_other)


class _JumpReLU(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, threshold: Threshold, bandwidth: float, kernel: Kernel) -> Tensor:
        return torch.where(_below(x, threshold), 0.0, x)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Threshold, float, Kernel], output: Tensor
    ) -> None:
        x, threshold, ctx.bandwidth, ctx.kernel = inputs
        ctx.learns = ctx.needs_input_grad[1]  # the window reaches below θ: it needs x
        keep(ctx, x if ctx.learns else output, threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        saved, (threshold,) = kept(ctx)
        if not ctx.learns:
            return where_nonzero(grad, saved), None, None, None
        grad_x = torch.where(_below(saved, threshold), 0.0, grad)
        wide = widen(saved)
        level = level_like(threshold, wide)
        slope = level * window(wide - level, ctx.bandwidth, ctx.kernel)
        return grad_x, sum_to(-slope * grad, threshold), None, None


def _below(x: Tensor, threshold: Threshold) -> Tensor:
    wide = widen(x)
    return wide <= level_like(threshold, wide)
