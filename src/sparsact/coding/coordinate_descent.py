"""Coordinate descent for lasso and elastic net, over signals that share a dictionary."""

import torch
from torch import Tensor

from sparsact.coding.duality import ElasticLevels, elastic_levels
from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.problem import Problem
from sparsact.coding.sparse_dictionary import SparseDictionary
from sparsact.coding.working_set import LargeLasso

# the import registers the operation
from sparsact.kernels import lasso as lasso
from sparsact.penalties import Penalty
from sparsact.thresholds.arguments import as_number

_SMALL = 512  # atoms whose Gram matrix costs less than working sets
_PASSES = 16  # products with all atoms that working sets take, about


def lasso_levels(penalty: Penalty) -> ElasticLevels | None:
    """:func:`elastic_levels` as plain numbers, or None for what these methods do not solve.

    They need an l1 above 0, and weights that are one positive number per atom, without l2.
    """
    levels = elastic_levels(penalty)
    if levels is None:
        return None
    l1, l2 = as_number(levels.l1), as_number(levels.l2)
    if l1 <= 0:
        return None
    weights = levels.weights
    if weights is not None:
        by_atom = weights.numel() == 1 or weights.shape[-1] == weights.numel()
        if l2 or not by_atom or not levels.weights_are_positive:
            return None
        weights = weights.detach().reshape(-1)
    return ElasticLevels(l1, l2, weights)


def coordinate_descent(
    problem: Problem, codes: Tensor, rounds: int, tol: float
) -> tuple[Tensor, Tensor, int]:
    """Codes, their relative duality gaps and the rounds that the slowest signal took.

    Many signals share the Gram matrix of all atoms. For a few signals and many atoms, each signal
    has a working set.
    """
    levels = lasso_levels(problem.penalty)
    assert levels is not None
    dictionary = problem.operator
    assert isinstance(dictionary, (MatrixDictionary, SparseDictionary))
    start = codes.relu() if problem.positive else codes
    if levels.weights is None:
        return _solve(problem, dictionary, levels, start, rounds, tol)
    # in units of its atom divided by w, a code w·z has the weight 1
    weights = levels.weights.to(codes).expand(codes.shape[1])
    scaled = dictionary.scaled(1 / weights)
    found, gaps, taken = _solve(problem, scaled, levels, start * weights, rounds, tol)
    return found / weights, gaps, taken


def _solve(
    problem: Problem,
    dictionary: MatrixDictionary | SparseDictionary,
    levels: ElasticLevels,
    start: Tensor,
    rounds: int,
    tol: float,
) -> tuple[Tensor, Tensor, int]:
    l1, l2 = levels.l1, levels.l2
    if isinstance(dictionary, MatrixDictionary) and _gram_pays(*start.shape):
        return _batch(problem, dictionary.matrix, l1, l2, start, rounds, tol)
    solutions = [
        LargeLasso(signal, dictionary, l1, l2, problem.positive).solve(code, rounds, tol)
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
    l1: float,
    l2: float,
    start: Tensor,
    rounds: int,
    tol: float,
) -> tuple[Tensor, Tensor, int]:
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
