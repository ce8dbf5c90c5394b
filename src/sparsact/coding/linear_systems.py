"""Least squares near given codes: ``argmin_z ½‖x − D(z)‖² + ½ρ‖z − p‖²``, as ADMM needs it."""

from typing import Protocol

import torch
from torch import Tensor

from sparsact.coding.duality import real_rows
from sparsact.coding.operators import MatrixDictionary, Operator
from sparsact.coding.problem import Problem

_MOST_STEPS = 100


class Ridge(Protocol):
    """Solves ``(DᴴD + ρI)·z = Dᴴx + ρ·p`` for the signals x of a problem.

    Attributes:
        mean_eigenvalue: about the mean eigenvalue of DᴴD.
    """

    mean_eigenvalue: float

    def solve(self, near: Tensor, weight: float) -> Tensor:
        """The codes z for p = `near` and ρ = `weight`."""

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the signals."""


def ridge_of(problem: Problem) -> Ridge:
    """The singular vectors of a dense matrix, or conjugate gradients for another operator."""
    if isinstance(problem.operator, MatrixDictionary):
        return SingularVectors(problem.operator.matrix.detach(), problem.signals)
    return ConjugateGradients(problem.operator, problem.signals, problem.lipschitz)


class SingularVectors:
    """For rows ``z·(M·Mᴴ + ρI) = x·Mᴴ + ρ·p``, as a step from p.

    It is ``z = p + (x − p·M)·(Mᴴ·M + ρI)⁻¹·Mᴴ``, which divides by no small ρ; with ``M = U·S·Wᴴ``
    that is ``z = p + (x·W − p·U·S)·(S² + ρI)⁻¹·(U·S)ᴴ``.
    """

    def __init__(self, matrix: Tensor, signals: Tensor) -> None:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        self.values, self.basis = values.square(), left * values
        self.signals = signals @ right.mH
        self.mean_eigenvalue = float(self.values.sum()) / len(matrix)

    def solve(self, near: Tensor, weight: float) -> Tensor:
        """The codes z for p = `near` and ρ = `weight`."""
        inner = (self.signals - near @ self.basis) / (self.values + weight)
        fitted: Tensor = near + inner @ self.basis.mH
        return fitted

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the signals."""
        self.signals = self.signals[chosen]


class ConjugateGradients:
    """``z = p + Dᴴy`` with ``(D·Dᴴ + ρI)·y = x − D(p)``, each y from the one before.

    The system has the size of a signal, which is less than that of its code. A convolution that
    loses no border is not diagonal in the Fourier transform, so it takes this way too.
    """

    def __init__(self, operator: Operator, signals: Tensor, lipschitz: float) -> None:
        self.operator, self.signals = operator, signals
        self.inner = torch.zeros_like(signals)
        self.mean_eigenvalue = lipschitz / 10  # a guess, which balancing mends
        numbers = torch.finfo(signals.dtype)
        self._tolerance, self._tiny = numbers.eps**0.75, numbers.tiny

    def solve(self, near: Tensor, weight: float) -> Tensor:
        """The codes z for p = `near` and ρ = `weight`."""
        target = self.signals - self.operator(near)
        enough = (self._tolerance**2) * _dot(target, target)
        rest = target - self._system(self.inner, weight)
        direction, square = rest, _dot(rest, rest)
        for _ in range(_MOST_STEPS):
            if bool((square <= enough).all()):
                break
            image = self._system(direction, weight)
            size = square / _dot(direction, image).clamp(min=self._tiny)
            self.inner = self.inner + size * direction
            rest = rest - size * image
            before, square = square, _dot(rest, rest)
            direction = rest + square / before.clamp(min=self._tiny) * direction
        return near + self.operator.adjoint(self.inner)

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the signals."""
        self.signals, self.inner = self.signals[chosen], self.inner[chosen]

    def _system(self, signals: Tensor, weight: float) -> Tensor:
        return self.operator(self.operator.adjoint(signals)) + weight * signals


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The real part of the inner product of each signal, of a shape that broadcasts to them."""
    products = (real_rows(a) * real_rows(b)).sum(1)
    return products.view(-1, *[1] * (a.ndim - 1))
