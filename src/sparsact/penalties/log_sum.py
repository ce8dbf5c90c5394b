"""LogSum: grows more slowly than ``|x|``, so it shrinks large entries little."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.l1_l2 import Weights, check_weights, weighted
from sparsact.thresholds.arguments import widen
from sparsact.thresholds.backward import keep, kept
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.forward_mode import SumFunction


@dataclass(frozen=True)
class LogSum(Penalty):
    """``coef·Σ w·log(1 + |x|/eps)``; its gradient at 0 is 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        eps: ε > 0; for ``|x|`` below it the penalty is nearly linear, with the slope ``coef/eps``.
        weights: w ≥ 0, as in :class:`L1`.

    Example:
        >>> LogSum(0.5, eps=0.1)(torch.tensor([0.0, 1.0]))
        tensor(1.1989)

    Source:
        Candès, Wakin & Boyd, "Enhancing sparsity by reweighted L1 minimization" (2008), eq. 8.
    """

    coef: Coefficient
    eps: float = 0.1
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_coefficient(self.eps, "eps")
        check_weights(self.weights)
        if self.eps == 0:
            raise InputError("eps= must be positive, got 0")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        if self.weights is None:
            total: Tensor = _LogSum.run(moduli(x), self.eps)
        else:
            terms = torch.log1p(widen(moduli(x)).abs() / self.eps)
            total = torch.as_tensor(weighted(terms, self.weights, x)).sum()
        return fixed(self.coef) * total

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """The larger stationary point of the objective if it costs less than 0, else 0.

        With ``a = step·coef·w`` the stationary point is ``r = (|x| − ε)/2 + √((|x| + ε)²/4 − a)``.
        If ``a ≤ ε²``, the objective is convex and 0 is its minimiser for ``|x| ≤ a/ε``. Otherwise
        the two costs are compared.
        """
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        scaled = weighted(step * fixed(self.coef), self.weights, x)
        wide = widen(x)
        size = wide.abs()
        reach = size + self.eps
        inside = reach.square() - 4 * scaled
        root = size - 2 * scaled / (reach + inside.clamp(min=0).sqrt())  # r, without cancellation
        excess = root * (root / 2 - size) + scaled * torch.log1p(root / self.eps)
        beaten = (inside < 0) | (root <= 0) | (excess >= 0)
        convex = torch.as_tensor(scaled <= self.eps**2, device=x.device)
        dead = torch.where(convex, size <= scaled / self.eps, beaten)
        return torch.where(dead, 0.0, wide.sign() * root).to(x.dtype)


class _LogSum(SumFunction):  # keeps x itself; autograd would keep float32 copies
    @staticmethod
    def forward(x: Tensor, eps: float) -> Tensor:
        return torch.log1p(widen(x).abs() / eps).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.eps = inputs
        keep(ctx, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, _ = kept(ctx)
        wide = widen(x)
        return (grad * wide.sign() / (wide.abs() + ctx.eps)).to(x.dtype), None
