"""A penalty that is quadratic near 0 and linear beyond."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._thresholds.arguments import level_like, widen
from sparsact._thresholds.shrink import softshrink
from sparsact.penalties.elementwise import absolute_sum, square_sum
from sparsact.penalties.penalty import Coefficient, Penalty, check_coefficient, number


@dataclass(frozen=True)
class SmoothL1(Penalty):
    """``coef·Σ h(x)``, h = ``½x²/beta`` for ``|x| ≤ beta`` and ``|x| − ½beta`` beyond.

    Smooth at 0, so its gradient steps give no exact zeros. Equal to ``torch.nn.SmoothL1Loss``
    against zero, but summed in float32.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        beta: β ≥ 0, where the quadratic part ends; 0 gives L1.

    Example:
        >>> SmoothL1(1.0, beta=1.0)(torch.tensor([0.5, -2.0]))
        tensor(1.6250)
    """

    coef: Coefficient
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_coefficient(self.beta, "beta")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        if self.beta == 0:
            return number(self.coef) * absolute_sum(x)
        wide = widen(x)  # of the difference of two sums, half precision would keep no gradient
        near = wide.clamp(-self.beta, self.beta)
        linear = absolute_sum(wide - near)
        return number(self.coef) * (linear + square_sum(near) / (2 * self.beta))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """`x` less ``x·s/(beta + s)`` clamped to ±s, ``s = step·coef``."""
        level = step * number(self.coef)
        if self.beta == 0:
            return softshrink(x, level)
        wide = widen(x)
        bound = level_like(level, wide)
        shift = torch.clamp(wide * (bound / (self.beta + bound)), -bound, bound)
        return (wide - shift).to(x.dtype)
