"""ISTA and FISTA: gradient steps on the fit, each followed by the penalty's prox."""

import math

from torch import Tensor

from sparsact.coding.duality import real_rows
from sparsact.coding.problem import Problem


def ista(problem: Problem, codes: Tensor, steps: int) -> Tensor:
    """`steps` proximal gradient steps.

    Source:
        Daubechies, Defrise & De Mol, "An iterative thresholding algorithm" (2004).
    """
    step = 1 / problem.lipschitz
    for _ in range(steps):
        _, ascent = problem.ascent(codes)
        codes = problem.prox(codes + step * ascent, step)
    return codes


class Fista:
    """FISTA with the momentum of a signal reset where the step turns back.

    Source:
        Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm" (2009); O'Donoghue &
        Candès, "Adaptive restart for accelerated gradient schemes" (2015), the gradient scheme.
    """

    def __init__(self, problem: Problem, codes: Tensor) -> None:
        self.problem, self.codes, self.ahead = problem, codes, codes
        self.momentum = codes.real.new_ones((len(codes),) + (1,) * (codes.ndim - 1))

    def run(self, steps: int) -> Tensor:
        """`steps` steps; the codes after them."""
        step = 1 / self.problem.lipschitz
        for _ in range(steps):
            _, ascent = self.problem.ascent(self.ahead)
            codes = self.problem.prox(self.ahead + step * ascent, step)
            self._move(codes)
        return self.codes

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the signals."""
        self.problem = self.problem.only(chosen, self.codes.ndim)
        self.codes, self.ahead = self.codes[chosen], self.ahead[chosen]
        self.momentum = self.momentum[chosen]

    def _move(self, codes: Tensor) -> None:
        moved = codes - self.codes
        turns_back = (real_rows(self.ahead - codes) * real_rows(moved)).sum(1) > 0
        momentum = self.momentum.masked_fill(turns_back.view(self.momentum.shape), 1)
        longer = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        self.ahead = codes + (momentum - 1) / longer * moved
        self.codes, self.momentum = codes, longer


def fista_momenta(steps: int) -> list[float]:
    """The factors of FISTA without restart, as unfolded networks start with them."""
    factors, momentum = [], 1.0
    for _ in range(steps):
        longer = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        factors.append((momentum - 1) / longer)
        momentum = longer
    return factors
