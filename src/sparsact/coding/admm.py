"""ADMM: a linear system for the fit and the prox of the penalty, in turn."""

import torch
from torch import Tensor

from sparsact.coding.linear_systems import Ridge, ridge_of
from sparsact.coding.problem import Problem

_RELAXATION = 1.7
_BALANCE_EVERY = 10
_BALANCED_STEPS = 400  # ρ is fixed afterwards, which convergence needs
_UNBALANCED = 3.0


class Admm:
    """ADMM on ``½‖x − D(z)‖² + penalty(v)`` with z = v.

    The system for z is solved by the singular vectors of a dense matrix, so a step costs what a
    step of FISTA does; of another operator by conjugate gradients. ρ may change: it keeps the
    primal and the dual residual of like size, each relative to what it is a residual of.

    For a penalty that is not convex it need not settle.

    Source:
        Boyd et al., "Distributed optimization and statistical learning via the alternating
        direction method of multipliers" (2011), sections 3.4, 4.3 and 6.4; Wohlberg, "ADMM penalty
        parameter selection by residual balancing" (2017), for the relative residuals.
    """

    def __init__(self, problem: Problem, codes: Tensor) -> None:
        self.problem, self.codes = problem, codes
        self.dual = torch.zeros_like(codes)  # scaled, as the sum of what z and v differ by
        self.ridge: Ridge = ridge_of(problem)
        self.weight = max(self.ridge.mean_eigenvalue, torch.finfo(codes.dtype).tiny)
        self.taken = 0

    def run(self, steps: int) -> Tensor:
        """`steps` steps; the codes after them."""
        for _ in range(steps):
            before = self.codes
            fitted = self.ridge.solve(self.codes - self.dual, self.weight)
            relaxed = _RELAXATION * fitted + (1 - _RELAXATION) * self.codes
            self.codes = self.problem.prox(relaxed + self.dual, 1 / self.weight)
            self.dual = self.dual + relaxed - self.codes
            self.taken += 1
            if self.taken % _BALANCE_EVERY == 0 and self.taken <= _BALANCED_STEPS:
                self._balance(fitted, before)
        return self.codes

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the signals."""
        self.problem = self.problem.only(chosen, self.codes.ndim)
        self.codes, self.dual = self.codes[chosen], self.dual[chosen]
        self.ridge.keep(chosen)

    def _balance(self, fitted: Tensor, before: Tensor) -> None:
        primal = float((fitted - self.codes).norm()) / max(float(self.codes.norm()), 1e-30)
        dual = float((self.codes - before).norm()) / max(float(self.dual.norm()), 1e-30)
        factor = 2.0 if primal > _UNBALANCED * dual else 0.5 if dual > _UNBALANCED * primal else 1.0
        self.weight, self.dual = self.weight * factor, self.dual / factor
