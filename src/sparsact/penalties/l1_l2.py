"""L1, L2 and ElasticNet: the penalties that act on each entry separately."""

from collections.abc import Sequence
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
from sparsact.penalties.entry_metric import (
    has_parts,
    reciprocal_parts,
    scale_parts,
    shrink_complex_groups_by_entry,
)
from sparsact.thresholds.arguments import accumulate_dtype, check_broadcast, check_threshold
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.softshrink import softshrink

Weights = Tensor | Sequence[float]


@dataclass(frozen=True)
class L1(Penalty):
    """``coef·Σ w|x|``; its gradient at 0 is 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        weights: w ≥ 0, a tensor that broadcasts to the shape of x; by default 1. An entry of
            weight 0 is not penalised.

    Example:
        >>> L1(0.1)(torch.tensor([1.0, -2.0]))
        tensor(0.3000)
        >>> L1(0.1).prox(torch.tensor([1.0, 0.05]), step=1.0)
        tensor([0.9000, 0.0000])
    """

    coef: Coefficient
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_weights(self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        return fixed(self.coef) * absolute_sum(x, self.weights)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage by ``step·coef·w``."""
        return _shrink(x, weighted(step * fixed(self.coef), self.weights, x))


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
        growth = 2 * step * fixed(self.coef)
        if has_parts(growth):
            return scale_parts(x, reciprocal_parts(growth))
        return x / (1 + growth)


@dataclass(frozen=True)
class ElasticNet(Penalty):
    """``alpha·(l1_ratio·Σ w|x| + ½(1 − l1_ratio)·Σ wx²)``, as in scikit-learn.

    Args:
        alpha: coefficient ≥ 0, or a schedule of it.
        l1_ratio: share of the L1 part, in [0, 1].
        weights: w ≥ 0, a tensor that broadcasts to the shape of x; by default 1. They multiply
            both parts, as the penalty factors of glmnet do.

    Example:
        >>> ElasticNet(1.0, l1_ratio=0.5)(torch.tensor([1.0, -2.0]))
        tensor(2.7500)

    Source:
        Zou & Hastie, "Regularization and variable selection via the elastic net" (2005).
    """

    alpha: Coefficient
    l1_ratio: float = 0.5
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.alpha, "alpha")
        check_weights(self.weights)
        check_share(self.l1_ratio, "l1_ratio")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        l1 = self.l1_ratio * absolute_sum(x, self.weights)
        return fixed(self.alpha) * (l1 + 0.5 * (1 - self.l1_ratio) * square_sum(x, self.weights))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage by ``step·alpha·l1_ratio``, over ``1 + step·alpha·(1 − l1_ratio)``."""
        lambd = weighted(step * fixed(self.alpha), self.weights, x)
        if has_parts(lambd):  # the quadratic part first: it shrinks and changes the metric
            factor = reciprocal_parts(lambd * (1 - self.l1_ratio))
            metric = scale_parts(lambd, factor)
            x = scale_parts(x, factor)
            return shrink_complex_groups_by_entry(x, metric * self.l1_ratio, None)
        shrunk = softshrink(x, lambd * self.l1_ratio)
        return shrunk / (1 + lambd * (1 - self.l1_ratio))


def _shrink(x: Tensor, lambd: float | Tensor) -> Tensor:
    if has_parts(lambd):
        return shrink_complex_groups_by_entry(x, lambd, None)
    return softshrink(x, lambd)


def check_weights(weights: object) -> None:
    """Raise unless `weights` is None, or numbers that are finite and not negative."""
    if weights is not None:
        check_threshold(torch.as_tensor(weights, dtype=torch.float64), "weights")


def weighted(value: float | Tensor, weights: Weights | None, x: Tensor) -> float | Tensor:
    """`value` times the weights of the entries of `x`."""
    if weights is None:
        return value
    factors = torch.as_tensor(weights, dtype=accumulate_dtype(x), device=x.device)
    check_broadcast(factors, x, "weights")
    return value * factors


def absolute_sum(x: Tensor, weights: Weights | None = None) -> Tensor:
    """``Σ w|x|``, summed in float32 at least without a float32 copy of `x`.

    On the CPU, ``torch.linalg.vector_norm`` adds entries one by one, with an error of 10⁻³ at 10⁷
    entries.
    """
    size = moduli(x).abs()
    if weights is not None:
        return torch.as_tensor(weighted(size, weights, x)).sum(dtype=accumulate_dtype(x))
    return size.sum(dtype=accumulate_dtype(x))


def square_sum(x: Tensor, weights: Weights | None = None) -> Tensor:
    """``Σ wx²``, squared and summed in float32 at least without a float32 copy of `x`."""
    dtype = accumulate_dtype(x)
    if weights is not None:
        return torch.as_tensor(weighted(moduli(x).to(dtype).square(), weights, x)).sum()
    if x.is_complex():
        return x.real.square().sum() + x.imag.square().sum()
    if x.dtype == dtype:
        return x.square().sum()
    rows: Tensor = torch.linalg.vector_norm(x, 2, -1, dtype=dtype)
    return rows.square().sum()
