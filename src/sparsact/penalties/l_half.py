"""LHalf: the sum of square roots of magnitudes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.l1_l2 import Weights, check_weights, weighted
from sparsact.thresholds.arguments import widen, widen_like
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.halfshrink import halfshrink


@dataclass(frozen=True)
class LHalf(Penalty):
    """``coef·Σ w√|x|``: the power ½ of the L½ quasi-norm.

    It is not convex, and its slope is infinite at 0: a solver finds a stationary point, and an
    entry at 0 stays there. Start away from 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        weights: w ≥ 0, as in :class:`L1`.

    Gradient:
        exact; set to 0 at 0.

    Example:
        >>> LHalf(0.5)(torch.tensor([0.0, -4.0]))
        tensor(1.)
        >>> LHalf(0.5).prox(torch.tensor([0.9, 4.0]), step=1.0)
        tensor([0.0000, 3.8730])

    Source:
        Xu et al., "L1/2 regularization: a thresholding representation theory and a fast solver"
        (2012). Their objective has no ½ before the square.
    """

    coef: Coefficient
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_weights(self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        size = widen(moduli(x)).abs()
        zero = size == 0
        roots = torch.where(zero, 0.0, torch.where(zero, 1.0, size).sqrt())
        return fixed(self.coef) * torch.as_tensor(weighted(roots, self.weights, x)).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Half shrinkage with the cut-off ``1.5·(step·coef·w)^⅔``."""
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        strength = weighted(step * fixed(self.coef), self.weights, x)
        return halfshrink(x, 1.5 * widen_like(strength, widen(x)) ** (2 / 3))
