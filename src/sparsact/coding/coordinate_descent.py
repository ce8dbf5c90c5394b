"""Coordinate descent for lasso and elastic net, over signals that share a dictionary."""

import torch
from torch import Tensor

from sparsact.coding.duality import elastic_levels
from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.problem import Problem

# the import registers the operation
from sparsact.kernels import lasso as lasso
from sparsact.penalties import Penalty


def elastic_numbers(penalty: Penalty) -> tuple[float, float] | None:
    """:func:`elastic_levels` as plain numbers; None also where l1 is 0."""
    levels = elastic_levels(penalty)
    if levels is None:
        return None
    l1, l2 = (float(torch.as_tensor(level).detach()) for level in levels)
    return (l1, l2) if l1 > 0 else None


def coordinate_descent(
    problem: Problem, codes: Tensor, rounds: int, tol: float
) -> tuple[Tensor, Tensor, int]:
    """Codes, their relative duality gaps and the rounds that the slowest signal took.

    All signals share the Gram matrix of the atoms; see the operation ``lasso_gram``.
    """
    assert isinstance(problem.operator, MatrixDictionary)
    levels = elastic_numbers(problem.penalty)
    assert levels is not None
    l1, l2 = levels
    matrix, signals = problem.operator.matrix, problem.signals
    start = codes.relu() if problem.positive else codes
    codes, gap, taken = torch.ops.sparsact.lasso_gram(
        signals @ matrix.t(),
        matrix @ matrix.t(),
        signals.square().sum(1),
        signals.new_full((len(matrix),), l1),
        start,
        l2,
        problem.positive,
        rounds,
        tol,
    )
    return codes, gap, int(taken.max()) if len(taken) else 0
