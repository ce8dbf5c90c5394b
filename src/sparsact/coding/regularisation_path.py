"""Sparse codes for a sequence of coefficients."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.coding.arguments import Method, as_dictionary, check_signals
from sparsact.coding.duality import elastic_levels
from sparsact.coding.sparse_code import ZeroCodeWarning, solve_sparse_code
from sparsact.penalties import L1, Penalty


@dataclass(frozen=True)
class CodePath:
    """The codes for each coefficient.

    Attributes:
        lambdas: the coefficients of the penalty, (n,), in the order of the codes.
        codes: (n, …, atoms).
        distance: as in :class:`SparseCode`, (n, …).
        tol: the tolerance that was set.
    """

    lambdas: Tensor
    codes: Tensor
    distance: Tensor
    tol: float

    @property
    def converged(self) -> bool:
        """Whether every signal reached the tolerance at every coefficient."""
        return bool((self.distance <= self.tol).all())


@torch.no_grad()
def path(
    x: Tensor,
    dictionary: Any,
    lambdas: Tensor | Sequence[float] | None = None,
    *,
    penalty: Penalty | None = None,
    count: int = 100,
    ratio: float = 1e-3,
    method: Method = "auto",
    steps: int = 1000,
    tol: float = 1e-6,
    positive: bool = False,
) -> CodePath:
    """Solve :func:`sparse_code` for a sequence of coefficients, each from the codes before it.

    With few signals and many atoms, working sets start from the support before, and atoms that the
    duality gap proves to be zero are screened.

    Args:
        x: signals, as in :func:`sparse_code`.
        dictionary: as in :func:`sparse_code`.
        lambdas: coefficients of the penalty, (n,), best from large to small. By default `count`
            of them in a geometric sequence from the least one whose codes are all zero down to
            `ratio` of it.
        penalty: the penalty; its own coefficient is replaced. L1 by default.
        count: how many coefficients there are if `lambdas` is None.
        ratio: the smallest coefficient over the largest if `lambdas` is None.
        method: as in :func:`sparse_code`.
        steps: as in :func:`sparse_code`, for each coefficient.
        tol: as in :func:`sparse_code`.
        positive: as in :func:`sparse_code`.

    Gradient:
        none; the codes are constants.

    Raises:
        InputError: as :func:`sparse_code`; a penalty other than L1 and ElasticNet without
            `lambdas`; a `count` below 1 or a `ratio` outside (0, 1).

    Warns:
        ZeroCodeWarning: all codes are zero at all coefficients.

    Example:
        >>> found = path(torch.tensor([[3.0, 1.0]]), torch.eye(2), torch.tensor([2.0, 0.5]))
        >>> found.codes
        tensor([[[1.0000, 0.0000]],
        <BLANKLINE>
                [[2.5000, 0.5000]]])

    Source:
        Friedman, Hastie & Tibshirani, "Regularization paths for generalized linear models via
        coordinate descent" (2010).
    """
    penalty = L1(1.0) if penalty is None else penalty
    dictionary = as_dictionary(dictionary)
    if lambdas is None:
        lambdas = _geometric(x, dictionary, penalty, count, ratio, positive)
    lambdas = torch.as_tensor(lambdas, dtype=None if isinstance(lambdas, Tensor) else torch.double)
    if lambdas.ndim != 1 or not len(lambdas):
        raise InputError(f"lambdas= must have shape (n,), got {tuple(lambdas.shape)}")
    codes, distances = [], []
    start = None
    for value in lambdas.tolist():
        code = solve_sparse_code(
            x,
            dictionary,
            penalty.with_coefficient(value),
            method=method,
            steps=steps,
            tol=tol,
            positive=positive,
            start=start,
        )
        start = code.codes
        codes.append(code.codes)
        distances.append(code.distance)
    if not any(bool(each.any()) for each in codes):
        warnings.warn(
            "all codes are zero at every coefficient: lambdas= lie at or above λ_max; lower them",
            ZeroCodeWarning,
            stacklevel=2,
        )
    return CodePath(lambdas, torch.stack(codes), torch.stack(distances), tol)


def _geometric(
    x: Tensor, dictionary: Any, penalty: Penalty, count: int, ratio: float, positive: bool
) -> Tensor:
    """From the least coefficient whose codes are all zero down to `ratio` of it."""
    levels = elastic_levels(penalty.with_coefficient(1.0))
    if levels is None or levels.l1 == 0 or not levels.weights_are_positive:
        raise InputError(
            f"lambdas= is needed for {type(penalty).__name__}: the largest useful coefficient is "
            "known for L1 and for ElasticNet with an L1 part, of positive weights"
        )
    if count < 1 or not 0 < ratio < 1:
        raise InputError(
            f"count= must be at least 1 and ratio= between 0 and 1, got {count} and {ratio}"
        )
    signals, operator = check_signals(x, dictionary)
    correlation = operator.adjoint(signals)
    steep = correlation if positive else correlation.abs()
    if levels.weights is not None:
        steep = steep / levels.weights.to(steep)
    largest = float(steep.max()) / levels.l1
    if largest <= 0:
        raise InputError("lambdas= is needed: the codes are zero for every coefficient")
    steps = torch.linspace(0, 1, count, dtype=torch.float64)
    return (largest * ratio**steps).to(x.real)
