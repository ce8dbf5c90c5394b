"""Coordinate descent for lasso and elastic net, over signals that share a dictionary."""

import torch
from torch import Tensor

from sparsact.coding.duality import elastic_levels
from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.problem import Problem
from sparsact.coding.sparse_dictionary import SparseDictionary
from sparsact.coding.working_set import LargeLasso

# the import registers the operation
from sparsact.kernels import lasso as lasso
from sparsact.penalties import Penalty

_SMALL = 512  # atoms whose Gram matrix costs less than working sets
_PASSES = 16  # products with all atoms that working sets take, about


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

    Many signals share the Gram matrix of all atoms. For a few signals and many atoms, each signal
    has a working set.
    """
    levels = elastic_numbers(problem.penalty)
    assert levels is not None
    start = codes.relu() if problem.positive else codes
    dictionary = problem.operator
    if isinstance(dictionary, MatrixDictionary) and _gram_pays(len(codes), codes.shape[1]):
        return _batch(problem, dictionary.matrix, levels, start, rounds, tol)
    assert isinstance(dictionary, (MatrixDictionary, SparseDictionary))
    solutions = [
        LargeLasso(signal, dictionary, *levels, problem.positive).solve(code, rounds, tol)
        for signal, code in zip(problem.signals, start, strict=True)
    ]
    if not solutions:
        return start, start.new_empty(0), 0
    found, gaps, taken = zip(*solutions, strict=True)
    return torch.stack(found), torch.stack(gaps), max(taken)


def _gram_pays(signals: int, atoms: int) -> bool:
    return atoms <= _SMALL or signals * _PASSES >= atoms


def _batch(
    problem: Problem,
    matrix: Tensor,
    levels: tuple[float, float],
    start: Tensor,
    rounds: int,
    tol: float,
) -> tuple[Tensor, Tensor, int]:
    l1, l2 = levels
    signals = problem.signals
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
