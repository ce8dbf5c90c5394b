"""ADMM: a linear system for the fit and the prox of the penalty, in turn."""

import torch
from torch import Tensor

from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.problem import Problem

_RELAXATION = 1.7
_BALANCE_EVERY = 10
_BALANCED_STEPS = 400  # ρ is fixed afterwards, which convergence needs
_UNBALANCED = 3.0


class Admm:
    """ADMM on ``½‖x − D(z)‖² + penalty(v)`` with z = v, for a matrix as dictionary.

    The system for z is solved by the singular vectors of the matrix, so a step costs what a step of
    FISTA does, and ρ may change. It keeps the primal and the dual residual of
    like size, each relative to what it is a residual of.

    For a penalty that is not convex it need not settle.

    Source:
        Boyd et al., "Distributed optimization and statistical learning via the alternating
        direction method of multipliers" (2011), sections 3.4 and 6.4; Wohlberg, "ADMM penalty
        parameter selection by residual balancing" (2017), for the relative residuals.
    """

    def __init__(self, problem: Problem, codes: Tensor) -> None:
        assert isinstance(problem.operator, MatrixDictionary)
        matrix = problem.operator.matrix.detach()
        self.problem, self.codes = problem, codes
        self.dual = torch.zeros_like(codes)  # scaled, as the sum of what z and v differ by
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        self.values, self.basis = values.square(), left * values
        self.signals = problem.signals @ right.mH
        self.weight = max(float(self.values.sum()) / len(matrix), 1e-30)
        self.taken = 0

    def run(self, steps: int) -> Tensor:
        """`steps` steps; the codes after them."""
        for _ in range(steps):
            before = self.codes
            fitted = self._fit()
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
        self.signals = self.signals[chosen]

    def _fit(self) -> Tensor:
        """Solve ``z·(M·Mᴴ + ρI) = x·Mᴴ + ρ·p`` for the rows z, as a step from p = v − u.

        It is ``z = p + (x − p·M)·(Mᴴ·M + ρI)⁻¹·Mᴴ``, which divides by no small ρ; with
        ``M = U·S·Wᴴ`` that is ``z = p + (x·W − p·U·S)·(S² + ρI)⁻¹·(U·S)ᴴ``.
        """
        from_codes = self.codes - self.dual
        inner = (self.signals - from_codes @ self.basis) / (self.values + self.weight)
        fitted: Tensor = from_codes + inner @ self.basis.mH
        return fitted

    def _balance(self, fitted: Tensor, before: Tensor) -> None:
        primal = float((fitted - self.codes).norm()) / max(float(self.codes.norm()), 1e-30)
        dual = float((self.codes - before).norm()) / max(float(self.dual.norm()), 1e-30)
        factor = 2.0 if primal > _UNBALANCED * dual else 0.5 if dual > _UNBALANCED * primal else 1.0
        self.weight, self.dual = self.weight * factor, self.dual / factor
