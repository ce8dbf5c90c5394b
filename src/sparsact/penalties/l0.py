"""L0: the number of entries that a threshold keeps, as a penalty."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.padding_mask import without_padding
from sparsact.thresholds.arguments import (
    Sides,
    acting_region,
    broadcast_threshold,
    widen,
    widen_like,
)
from sparsact.thresholds.backward import keep, kept, sum_to
from sparsact.thresholds.complex_modulus import check_sides, moduli
from sparsact.thresholds.forward_mode import SumFunction
from sparsact.thresholds.jumprelu import JumpReLU
from sparsact.thresholds.straight_through import check_window, window, zero_with_slope
from sparsact.thresholds.threshold_module import ThresholdModule


@dataclass(frozen=True)
class L0(Penalty):
    """``coef·Σ 1[|x| > θ]``: the number of entries that a threshold keeps.

    To train a learned threshold, attach the penalty to the input of its module:
    ``ActivationPenalty(model, {"act": L0(1e-3, threshold=model.act)}, on="input")``.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        threshold: θ ≥ 0, a number, or the threshold module that holds it.
        sides: the sign of the entries that count. The default is the sign that the module keeps:
            ``"positive"`` for ``nn.JumpReLU``, the `sides` of other modules that have them, else
            ``"both"``.
        bandwidth: ε > 0, the width of the window around θ in which there is a gradient. The
            default is that of the module, or 0.05 if it has none.

    Gradient:
        straight-through: ``∂θ = −coef·Σ 1[| |x| − θ | < ε/2]/ε`` and
        ``∂x = coef·sign(x)·1[| |x| − θ | < ε/2]/ε``. NaN counts as non-zero.

    Example:
        >>> L0(0.1)(torch.tensor([1.0, 0.0, -2.0]))
        tensor(0.2000)

    Source:
        Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU
        Sparse Autoencoders" (2024), eq. 12. In the paper, x receives no gradient.
    """

    coef: Coefficient
    threshold: float | ThresholdModule = 0.0
    sides: Sides | None = None
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        if not isinstance(self.threshold, ThresholdModule):
            check_coefficient(self.threshold, "threshold")
        check_window(self._bandwidth)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        x = self._without_phase(x)
        return self.at_level(x, self._theta(x))

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """The penalty on the kept positions; θ learns from these alone."""
        x = self._without_phase(x)
        theta = self._theta(x)
        if isinstance(theta, Tensor):  # padding, set to 0, lies in the window of a small θ
            theta = without_padding(theta.expand_as(x), mask, True, math.inf)
        return self.at_level(without_padding(x, mask, True), theta)

    def at_level(self, x: Tensor, level: float | Tensor) -> Tensor:
        """The penalty on `x` with `level` as θ, for entries that were selected with their θ."""
        arguments = level, self._sides, self._bandwidth
        counted: Tensor = _Count.run(x, *arguments)
        return fixed(self.coef) * counted

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """`x` beyond ``θ + √(2·step·coef)``, else `x` clamped to ±θ. For θ = 0: hard shrinkage."""
        if x.is_complex():
            check_sides(self._sides)
            return prox_of_modulus(self, x, step)
        wide = widen(x)
        theta = widen_like(self._theta(x), wide)
        cut = theta + (2 * step * fixed(self.coef)) ** 0.5
        moved = torch.where(wide.abs() <= cut, wide.clamp(-theta, theta), wide)
        region = acting_region(x, self._sides, None)
        return (moved if region is None else torch.where(region, moved, wide)).to(x.dtype)

    def _theta(self, x: Tensor) -> float | Tensor:
        if isinstance(self.threshold, ThresholdModule):
            return broadcast_threshold(self.threshold.threshold(x), x, "threshold")
        return float(self.threshold)

    def _without_phase(self, x: Tensor) -> Tensor:
        if x.is_complex():
            check_sides(self._sides)
        return moduli(x)

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


class _Count(SumFunction):
    @staticmethod
    def forward(x: Tensor, theta: float | Tensor, sides: Sides, bandwidth: float) -> Tensor:
        wide = widen(x)
        passed = ~(wide.abs() <= widen_like(theta, wide))
        region = acting_region(x, sides, None)
        return (passed if region is None else passed & region).sum().to(wide.dtype)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, float | Tensor, Sides, float], output: Tensor
    ) -> None:
        x, theta, ctx.sides, ctx.bandwidth = inputs
        keep(ctx, x, theta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, (theta,) = kept(ctx)
        slope = grad * _density_at(x, theta, ctx.sides, ctx.bandwidth)
        grad_x = (slope * widen(x).sign()).to(x.dtype)
        grad_theta = sum_to(-slope, theta) if ctx.needs_input_grad[1] else None
        return grad_x, grad_theta, None, None

    @classmethod
    def composite(cls, x: Tensor, theta: float | Tensor, sides: Sides, bandwidth: float) -> Tensor:
        """The count, and its gradients."""
        slope = _density_at(x, theta, sides, bandwidth)
        of_x = zero_with_slope(widen(x), slope * widen(x).sign())
        return (
            cls.forward(x, theta, sides, bandwidth) + (of_x + zero_with_slope(theta, -slope)).sum()
        )


def _density_at(x: Tensor, theta: float | Tensor, sides: Sides, bandwidth: float) -> Tensor:
    """How many entries cross θ for a small change of θ, as an estimate for each entry."""
    wide = widen(x)
    slope = window(wide.abs() - widen_like(theta, wide), bandwidth)
    region = acting_region(x, sides, None)
    return slope if region is None else torch.where(region, slope, 0.0)
