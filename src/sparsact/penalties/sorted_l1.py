"""SLOPE and OSCAR: L1 with weights that follow the order of the magnitudes."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.sharded_parameters import gather
from sparsact.thresholds.arguments import accumulate_dtype, check_threshold, widen
from sparsact.thresholds.complex_modulus import moduli


class SortedL1(Penalty):
    """Abstract base: the sorted magnitudes of each row times levels that do not increase."""

    prox_is_entrywise: ClassVar[bool] = False

    coef: Coefficient
    dim: int

    @abstractmethod
    def _levels(self, length: int, x: Tensor) -> Tensor:
        """One level for each entry of a row of `length` entries, in the dtype of sums over `x`."""

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        levels = self._levels(self._length(x), x)
        magnitudes = gather(widen(moduli(x)).abs()).movedim(self.dim, -1)
        ordered = magnitudes.sort(-1, descending=True).values
        return fixed(self.coef) * (ordered * levels).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Sorted magnitudes minus the levels, pooled until they do not increase, and unsorted."""
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        check_joint_prox(self, x, step)
        levels = step * fixed(self.coef) * self._levels(self._length(x), x)
        wide = widen(x).movedim(self.dim, -1)
        ordered, places = wide.abs().sort(-1, descending=True)
        rows = x.numel() // max(len(levels), 1)
        fitted = non_increasing((ordered - levels).reshape(rows, len(levels)))
        sizes = torch.zeros_like(wide).scatter(-1, places, fitted.relu().reshape(wide.shape))
        return (wide.sign() * sizes).movedim(-1, self.dim).to(x.dtype)

    def _length(self, x: Tensor) -> int:
        if not -x.ndim <= self.dim < x.ndim:
            raise InputError(f"dim={self.dim} does not exist in an input of shape {tuple(x.shape)}")
        return x.shape[self.dim]


@dataclass(frozen=True)
class SLOPE(SortedL1):
    """``coef·Σ_i λ_i·|x|_(i)``: the i-th largest magnitude of a row times λ_i.

    Larger entries have larger weights, which controls the share of false discoveries. Entries of
    similar size become exactly equal in magnitude. Equal λ give L1.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        lambdas: λ_1 ≥ λ_2 ≥ … ≥ 0, one per entry of a row. None takes the weights of Benjamini
            and Hochberg, ``λ_i = Φ⁻¹(1 − i·q/(2n))`` for rows of n entries.
        q: the target share of false discoveries, in (0, 1), for ``lambdas=None``.
        dim: the dim whose entries form a row.

    Gradient:
        exact, 0 at 0; where magnitudes are equal, one of the subgradients.

    Raises:
        InputError: λ increase, or do not have the length of the dim; `q` is not in (0, 1). At a
            prox: a step size per entry or a sharded weight.

    Example:
        >>> SLOPE(1.0, lambdas=[2.0, 1.0])(torch.tensor([1.0, -3.0]))
        tensor(7.)
        >>> SLOPE(1.0, lambdas=[2.0, 1.0]).prox(torch.tensor([4.5, -5.0]), step=1.0)
        tensor([ 3.2500, -3.2500])

    Source:
        Bogdan et al., "SLOPE: adaptive variable selection via convex optimization" (2015),
        eq. 1.3, 1.6 and algorithm 3.
    """

    coef: Coefficient
    lambdas: Sequence[float] | Tensor | None = None
    q: float = 0.1
    dim: int = -1

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        if not 0 < self.q < 1:
            raise InputError(f"q= must lie strictly between 0 and 1, got {self.q}")
        if self.lambdas is not None:
            levels = torch.as_tensor(self.lambdas, dtype=torch.float64)
            check_threshold(levels, "lambdas")
            if levels.ndim != 1 or bool((levels.diff() > 0).any()):
                raise InputError("lambdas= must be one row of numbers that do not increase")

    def _levels(self, length: int, x: Tensor) -> Tensor:
        dtype = accumulate_dtype(x)
        if self.lambdas is None:
            rank = torch.arange(1, length + 1, dtype=torch.float64, device=x.device)
            quantile: Tensor = torch.special.ndtri(1 - rank * self.q / (2 * max(length, 1)))
            return quantile.to(dtype)
        levels = torch.as_tensor(self.lambdas, dtype=dtype, device=x.device)
        if len(levels) != length:
            raise InputError(
                f"lambdas= has {len(levels)} numbers, but dim {self.dim} of the input of shape "
                f"{tuple(x.shape)} has size {length}"
            )
        return levels


@dataclass(frozen=True)
class OSCAR(SortedL1):
    """``coef·(Σ|x_i| + pairwise·Σ_{i<j} max(|x_i|, |x_j|))`` for each row.

    Correlated features get coefficients of exactly equal magnitude. It is the sorted L1 penalty
    with ``λ_i = 1 + pairwise·(n − i)``.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        pairwise: the weight of the pairs, ≥ 0; 0 gives L1.
        dim: the dim whose entries form a row.

    Gradient:
        exact, 0 at 0; where magnitudes are equal, one of the subgradients.

    Raises:
        InputError: at a prox, a step size per entry or a sharded weight.

    Example:
        >>> OSCAR(1.0, pairwise=0.5)(torch.tensor([1.0, -3.0]))
        tensor(5.5000)

    Source:
        Bondell & Reich, "Simultaneous regression shrinkage, variable selection, and supervised
        clustering of predictors with OSCAR" (2008).
    """

    coef: Coefficient
    pairwise: float = 0.1
    dim: int = -1

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_coefficient(self.pairwise, "pairwise")

    def _levels(self, length: int, x: Tensor) -> Tensor:
        behind = torch.arange(length - 1, -1, -1, dtype=accumulate_dtype(x), device=x.device)
        return 1 + self.pairwise * behind


def check_joint_prox(penalty: Penalty, x: Tensor, step: float | Tensor) -> None:
    """Raise InputError if `x` is sharded or `step` has one size per entry."""
    if hasattr(x, "full_tensor"):
        raise InputError(f"{type(penalty).__name__} has no prox for a sharded weight")
    if isinstance(step, Tensor) and step.ndim:
        raise InputError(
            f"{type(penalty).__name__} has no prox in closed form when each entry has its own "
            "step size, as in Adam; use SGD"
        )


def non_increasing(rows: Tensor) -> Tensor:
    """The nearest rows, in squared distance, whose entries do not increase.

    Neighbouring blocks whose means increase are pooled, all of them at once, until none is left.
    Blocks that violate the order share a block of the solution, so the order of pooling is free.

    Args:
        rows: (rows, n), float32 or float64.

    Returns:
        (rows, n). The gradient is exact: the means of the gradient over the blocks.

    Source:
        Best & Chakravarti, "Active set algorithms for isotonic regression" (1990).
    """
    flat = rows.reshape(-1)
    labels = torch.arange(len(flat), device=rows.device)
    first = labels % max(rows.shape[1], 1) == 0  # blocks that begin a row
    means = flat.detach()
    while True:
        rising = ~first
        rising[1:] &= means[1:] > means[:-1]
        if not bool(rising.any()):
            break
        first = first[~rising]
        labels = ((~rising).cumsum(0) - 1)[labels]
        means = block_means(flat.detach(), labels, len(first))
    return block_means(flat, labels, len(first))[labels].reshape(rows.shape)


def block_means(flat: Tensor, labels: Tensor, count: int) -> Tensor:
    """The mean of each block of `flat`, by the label of each entry, (count,)."""
    sums = flat.new_zeros(count, dtype=torch.float64).index_add(0, labels, flat.double())
    sizes = torch.bincount(labels, minlength=count).clamp(min=1)
    return (sums / sizes).to(flat.dtype)
