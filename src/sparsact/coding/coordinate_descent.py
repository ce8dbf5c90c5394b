"""Coordinate descent for lasso and elastic net, over signals that share a dictionary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.devices import widest_float
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
_NARROW_ROUNDS = 40  # in float32, before float64 takes over


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
    has a working set. Where rounding in float32 keeps the gap of a signal above `tol`, as it does
    for strongly correlated atoms, the signal goes on in float64.
    """
    levels = lasso_levels(problem.penalty)
    assert levels is not None
    dictionary = problem.operator
    assert isinstance(dictionary, (MatrixDictionary, SparseDictionary))
    start = codes.relu() if problem.positive else codes
    weights = None if levels.weights is None else levels.weights.to(codes).expand(codes.shape[1])
    if weights is not None:  # in units of its atom divided by w, a code w·z has the weight 1
        dictionary, start = dictionary.scaled(1 / weights), start * weights
    lasso = Lasso(levels.l1, levels.l2, problem.positive, tol)
    widens = codes.dtype == torch.float32 and widest_float(codes.device) == torch.float64
    first = min(rounds, _NARROW_ROUNDS) if widens else rounds
    found, gaps, taken = lasso.solve(dictionary, problem.signals, start, first)
    left = gaps > tol
    if widens and taken < rounds and bool(left.any()):
        wide = type(dictionary)(dictionary.matrix.double()), problem.signals[left].double()
        finished, _, more = lasso.solve(*wide, found[left].double(), rounds - taken)
        found[left] = finished.float()
        gaps[left] = lasso.solve(*wide, found[left].double(), 0)[1].float()
        taken += more
    return found if weights is None else found / weights, gaps, taken


@dataclass(frozen=True)
class Lasso:
    """``min_z ½‖x − zD‖² + l1·‖z‖₁ + ½·l2·‖z‖²`` for each signal x, to a relative gap of `tol`."""

    l1: float
    l2: float
    positive: bool
    tol: float

    def solve(
        self,
        dictionary: MatrixDictionary | SparseDictionary,
        signals: Tensor,
        start: Tensor,
        rounds: int,
    ) -> tuple[Tensor, Tensor, int]:
        """Codes, their relative duality gaps and the rounds that the slowest signal took."""
        if isinstance(dictionary, MatrixDictionary) and _gram_pays(*start.shape):
            return self._batch(dictionary.matrix, signals, start, rounds)
        if not len(signals):
            return start, start.new_empty(0), 0
        found, gaps, taken = zip(
            *(
                LargeLasso(signal, dictionary, self.l1, self.l2, self.positive).solve(
                    code, rounds, self.tol
                )
                for signal, code in zip(signals, start, strict=True)
            ),
            strict=True,
        )
        return torch.stack(found), torch.stack(gaps), max(taken)

    def _batch(
        self, matrix: Tensor, signals: Tensor, start: Tensor, rounds: int
    ) -> tuple[Tensor, Tensor, int]:
        codes, gap, taken = torch.ops.sparsact.lasso_gram(
            signals @ matrix.t(),
            matrix @ matrix.t(),
            signals.square().sum(1),
            signals.new_full((len(matrix),), self.l1),
            start,
            self.l2,
            self.positive,
            rounds,
            self.tol,
        )
        return codes, gap, int(taken.max()) if len(taken) else 0


def _gram_pays(signals: int, atoms: int) -> bool:
    return atoms <= _SMALL or signals * _PASSES >= atoms
