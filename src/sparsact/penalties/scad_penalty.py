"""SCAD: the smoothly clipped absolute deviation, which leaves large entries as they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.l1_l2 import Weights, check_weights, weighted
from sparsact.thresholds.arguments import check_positive, widen, widen_like
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.scad import check_a


@dataclass(frozen=True)
class SCAD(Penalty):
    """``coef·Σ w·p(|x|)``; the slope of p is λ up to λ, falls to 0 at aλ, and stays 0.

    ``p(y) = λy`` up to λ, ``(2aλy − y² − λ²)/(2(a − 1))`` up to aλ, then ``½λ²(a + 1)``. The
    penalty is not convex: with it, a solver finds a stationary point. ``sa.nn.SCAD`` is the
    threshold that belongs to it.

    Args:
        coef: coefficient ≥ 0, or a schedule of it; 1 for the published penalty.
        lambd: λ > 0, the slope at 0.
        a: a > 2; entries beyond aλ cost the same.
        weights: w ≥ 0, as in :class:`L1`.

    Gradient:
        exact; 0 at 0.

    Example:
        >>> SCAD(1.0, lambd=0.5, a=4.0)(torch.tensor([0.0, 0.5, 9.0]))
        tensor(0.8750)
        >>> SCAD(1.0, lambd=0.5, a=4.0).prox(torch.tensor([0.4, 1.5, 9.0]), step=1.0)
        tensor([0.0000, 1.2500, 9.0000])

    Source:
        Fan & Li, "Variable selection via nonconcave penalized likelihood and its oracle
        properties", JASA 96 (2001), eq. 2.7 integrated.
    """

    coef: Coefficient
    lambd: float = 1.0
    a: float = 3.7
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_weights(self.weights)
        check_positive(self.lambd, "lambd")
        check_a(self.a)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        rising = widen(moduli(x)).abs().clamp(max=self.a * self.lambd)
        bend = (rising - self.lambd).relu().square() / (2 * (self.a - 1))
        terms = self.lambd * rising - bend
        return fixed(self.coef) * torch.as_tensor(weighted(terms, self.weights, x)).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """With ``s = step·coef·w``: soft shrinkage by sλ up to λ(1 + s), steeper up to aλ, then x.

        For ``s ≥ a − 1`` the steep part is concave. Then the cost of x is compared with that of
        soft shrinkage, which ends at λ.
        """
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        wide = widen(x)
        strength = widen_like(weighted(step * fixed(self.coef), self.weights, x), wide)
        size, lambd = wide.abs(), self.lambd
        soft = (size - strength * lambd).relu()
        convex = strength < self.a - 1
        slope = strength / torch.where(convex, self.a - 1 - strength, 1.0)
        steep = soft + (size - lambd * (1 + strength)).relu() * slope
        near = torch.where(size >= self.a * lambd, size, steep)
        low = soft.clamp(max=lambd)
        cost = (size - low).square() / 2 + strength * lambd * low
        stays = (size > self.a * lambd) & (cost > strength * (lambd**2 * (self.a + 1) / 2))
        far = torch.where(stays | wide.isnan(), size, low)
        return (wide.sign() * torch.where(convex, near, far)).to(x.dtype)
