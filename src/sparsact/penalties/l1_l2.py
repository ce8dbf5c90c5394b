"""L1, L2 and ElasticNet: the penalties that act on each entry separately."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties.base_penalty import (
    Coefficient,
    Penalty,
    check_coefficient,
    check_share,
    fixed,
)
from sparsact.thresholds.arguments import accumulate_dtype
from sparsact.thresholds.softshrink import softshrink


@dataclass(frozen=True)
class L1(Penalty):
    """``coef·Σ|x|``; its gradient at 0 is 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.

    Example:
        >>> L1(0.1)(torch.tensor([1.0, -2.0]))
        tensor(0.3000)
        >>> L1(0.1).prox(torch.tensor([1.0, 0.05]), step=1.0)
        tensor([0.9000, 0.0000])
    """

    coef: Coefficient

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        return fixed(self.coef) * absolute_sum(x)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage by ``step·coef``."""
        return softshrink(x, step * fixed(self.coef))


@dataclass(frozen=True)
class L2(Penalty):
    """``coef·Σx²``, without a factor ½, as in Keras.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.

    Example:
        >>> L2(0.1)(torch.tensor([1.0, -2.0]))
        tensor(0.5000)
    """

    coef: Coefficient

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        return fixed(self.coef) * square_sum(x)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """``x/(1 + 2·step·coef)``."""
        return x / (1 + 2 * step * fixed(self.coef))


@dataclass(frozen=True)
class ElasticNet(Penalty):
    """``alpha·(l1_ratio·Σ|x| + ½(1 − l1_ratio)·Σx²)``, as in scikit-learn.

    Args:
        alpha: coefficient ≥ 0, or a schedule of it.
        l1_ratio: share of the L1 part, in [0, 1].

    Example:
        >>> ElasticNet(1.0, l1_ratio=0.5)(torch.tensor([1.0, -2.0]))
        tensor(2.7500)

    Source:
        Zou & Hastie, "Regularization and variable selection via the elastic net" (2005).
    """

    alpha: Coefficient
    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        check_coefficient(self.alpha, "alpha")
        check_share(self.l1_ratio, "l1_ratio")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        l1 = self.l1_ratio * absolute_sum(x)
        return fixed(self.alpha) * (l1 + 0.5 * (1 - self.l1_ratio) * square_sum(x))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage by ``step·alpha·l1_ratio``, over ``1 + step·alpha·(1 − l1_ratio)``."""
        shrunk = softshrink(x, step * fixed(self.alpha) * self.l1_ratio)
        return shrunk / (1 + step * fixed(self.alpha) * (1 - self.l1_ratio))


def absolute_sum(x: Tensor) -> Tensor:
    """``Σ|x|``, summed in float32 at least without a float32 copy of `x`.

    On the CPU, ``torch.linalg.vector_norm`` adds entries one by one, with an error of 10⁻³ at 10⁷
    entries.
    """
    return x.abs().sum(dtype=accumulate_dtype(x))


def square_sum(x: Tensor) -> Tensor:
    """``Σx²``, squared and summed in float32 at least without a float32 copy of `x`."""
    dtype = accumulate_dtype(x)
    if x.dtype == dtype:
        return x.square().sum()
    rows: Tensor = torch.linalg.vector_norm(x, 2, -1, dtype=dtype)
    return rows.square().sum()
