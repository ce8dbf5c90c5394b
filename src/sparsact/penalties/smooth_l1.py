"""SmoothL1: quadratic near 0 and linear beyond."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.l1_l2 import L1, absolute_sum, square_sum
from sparsact.thresholds.arguments import widen, widen_like
from sparsact.thresholds.complex_modulus import moduli


@dataclass(frozen=True)
class SmoothL1(Penalty):
    """``coef·Σ h(x)``, h = ``½x²/beta`` for ``|x| ≤ beta`` and ``|x| − ½beta`` beyond.

    It is smooth at 0, so gradient steps give no exact zeros. It equals
    ``torch.nn.SmoothL1Loss(reduction="sum")`` against zero, summed in float32.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        beta: β ≥ 0, the end of the quadratic part; 0 gives L1.

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
            return fixed(self.coef) * absolute_sum(x)
        wide = widen(
            moduli(x)
        )  # in half precision, the difference of the two sums would lose its gradient
        near = wide.clamp(-self.beta, self.beta)
        linear = absolute_sum(wide - near)
        return fixed(self.coef) * (linear + square_sum(near) / (2 * self.beta))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """`x` minus ``x·s/(beta + s)`` clamped to ±s, with ``s = step·coef``."""
        lambd = step * fixed(self.coef)
        if self.beta == 0:
            return L1(1.0).prox(x, lambd)
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        wide = widen(x)
        bound = widen_like(lambd, wide)
        shift = torch.clamp(wide * (bound / (self.beta + bound)), -bound, bound)
        return (wide - shift).to(x.dtype)
