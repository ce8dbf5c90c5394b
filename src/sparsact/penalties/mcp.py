"""MCP: the minimax concave penalty, which leaves large entries as they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.l1_l2 import Weights, check_weights, weighted
from sparsact.thresholds.arguments import check_positive, widen, widen_like
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.firmshrink import firmshrink


@dataclass(frozen=True)
class MCP(Penalty):
    """``coef·Σ w·p(|x|)``, ``p(y) = λy − y²/(2γ)`` up to γλ, then ``½γλ²``.

    The slope falls from λ at 0 to 0 at γλ, so large entries are not shrunk. The penalty is not
    convex: with it, a solver finds a stationary point.

    Args:
        coef: coefficient ≥ 0, or a schedule of it; 1 for the published penalty.
        lambd: λ > 0, the slope at 0.
        gamma: γ > 0; entries beyond γλ cost the same. A large γ approaches L1.
        weights: w ≥ 0, as in :class:`L1`.

    Gradient:
        exact; 0 at 0.

    Example:
        >>> MCP(1.0, lambd=0.5, gamma=3.0)(torch.tensor([0.0, 1.0, 9.0]))
        tensor(0.7083)
        >>> MCP(1.0, lambd=0.5, gamma=3.0).prox(torch.tensor([0.4, 1.0, 9.0]), step=1.0)
        tensor([0.0000, 0.7500, 9.0000])

    Source:
        Zhang, "Nearly unbiased variable selection under minimax concave penalty" (2010), eq. 2.1.
    """

    coef: Coefficient
    lambd: float = 1.0
    gamma: float = 3.0
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_weights(self.weights)
        check_positive(self.lambd, "lambd")
        check_positive(self.gamma, "gamma")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        rising = widen(moduli(x)).abs().clamp(max=self.gamma * self.lambd)
        terms = rising * (self.lambd - rising / (2 * self.gamma))
        return fixed(self.coef) * torch.as_tensor(weighted(terms, self.weights, x)).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Firm shrinkage from ``step·coef·w·λ`` to γλ; hard shrinkage if the first is larger.

        Hard shrinkage has the cut-off ``λ·√(step·coef·w·γ)``, where both minima cost the same.
        """
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        wide = widen(x)
        level = widen_like(weighted(step * fixed(self.coef), self.weights, x), wide) * self.lambd
        upper = widen_like(self.gamma * self.lambd, wide)
        cut = (level * upper).sqrt()  # between the two
        return firmshrink(x, torch.minimum(level, cut), torch.maximum(upper, cut))
