"""The number of non-zeros as a penalty."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact._thresholds.arguments import (
    Sides,
    acting_region,
    broadcast_threshold,
    level_like,
    sum_to,
    widen,
)
from sparsact._thresholds.arguments import Threshold as Level
from sparsact._thresholds.straight_through import check_bandwidth, window
from sparsact.nn.gate import JumpReLU
from sparsact.nn.threshold import ThresholdModule
from sparsact.penalties.mask import keep
from sparsact.penalties.penalty import Coefficient, Penalty, check_coefficient, number


@dataclass(frozen=True)
class L0(Penalty):
    """``coef·Σ 1[|x| > θ]``: how many entries a threshold lets through.

    To train a learned threshold, hang it on the input of that threshold's module:
    ``ActivationPenalty(model, {"act": L0(1e-3, threshold=model.act)}, on="input")``.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        threshold: θ ≥ 0: a number, or the module whose λ it is.
        sides: which entries count. By default those that the module lets through:
            ``"positive"`` for ``nn.JumpReLU``, the module's own `sides` if it has them, else
            ``"both"``.
        bandwidth: ε > 0, width of the window around θ in which there is a gradient; by default
            that of the module, else 0.05.

    Gradient:
        straight-through: ``∂θ = −coef·Σ 1[| |x| − θ | < ε/2]/ε``, and with the sign of x
        ``∂x = coef·sign(x)·1[| |x| − θ | < ε/2]/ε``. NaN counts as a non-zero.

    Example:
        >>> L0(0.1)(torch.tensor([1.0, 0.0, -2.0]))
        tensor(0.2000)

    Source:
        Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU
        Sparse Autoencoders" (2024), eq. 12; there x receives no gradient.
    """

    coef: Coefficient
    threshold: float | ThresholdModule = 0.0
    sides: Sides | None = None
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        if not isinstance(self.threshold, ThresholdModule):
            check_coefficient(self.threshold, "threshold")
        check_bandwidth(self._bandwidth)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        return self.at_level(x, self._level(x))

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """The penalty on the positions that are kept; θ learns from these alone."""
        level = self._level(x)
        if isinstance(level, Tensor):  # 0 lies within the window of a small θ
            level = keep(level.expand_as(x), mask, True, math.inf)
        return self.at_level(keep(x, mask, True), level)

    def at_level(self, x: Tensor, level: Level) -> Tensor:
        """The penalty on `x` with θ given: entries picked from `x` have their thresholds picked."""
        arguments = level, self._sides, self._bandwidth
        counted: Tensor = _Count.apply(x, *arguments)  # type: ignore[no-untyped-call]
        return number(self.coef) * counted

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """`x` beyond ``θ + √(2·step·coef)``, else clamped to ±θ: for θ = 0, hard shrinkage."""
        wide = widen(x)
        level = level_like(self._level(x), wide)
        cut = level + (2 * step * number(self.coef)) ** 0.5
        moved = torch.where(wide.abs() <= cut, wide.clamp(-level, level), wide)
        region = acting_region(x, self._sides, None)
        return (moved if region is None else torch.where(region, moved, wide)).to(x.dtype)

    def _level(self, x: Tensor) -> Level:
        if isinstance(self.threshold, ThresholdModule):
            return broadcast_threshold(self.threshold.threshold(x), x, "threshold")
        return float(self.threshold)

    @property
    def _sides(self) -> Sides:
        if self.sides is not None:
            return self.sides
        if isinstance(self.threshold, JumpReLU):
            return "positive"
        sides: Sides = getattr(self.threshold, "sides", "both")
        return sides

    @property
    def _bandwidth(self) -> float:
        if self.bandwidth is not None:
            return self.bandwidth
        return float(getattr(self.threshold, "bandwidth", 0.05))


class _Count(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, level: Level, sides: Sides, bandwidth: float) -> Tensor:
        wide = widen(x)
        passed = ~(wide.abs() <= level_like(level, wide))
        region = acting_region(x, sides, None)
        return (passed if region is None else passed & region).sum().to(wide.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Level, Sides, float], output: Tensor) -> None:
        x, level, ctx.sides, ctx.bandwidth = inputs
        if isinstance(level, Tensor):
            ctx.save_for_backward(x, level)
        else:
            ctx.level = level
            ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, *saved = ctx.saved_tensors
        level = saved[0] if saved else ctx.level
        wide = widen(x)
        slope = grad * window(wide.abs() - level_like(level, wide), ctx.bandwidth)
        region = acting_region(x, ctx.sides, None)
        slope = slope if region is None else torch.where(region, slope, 0.0)
        grad_x = (slope * wide.sign()).to(x.dtype)
        grad_level = sum_to(-slope, level) if ctx.needs_input_grad[1] else None
        return grad_x, grad_level, None, None
