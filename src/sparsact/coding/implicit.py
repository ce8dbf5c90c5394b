"""The gradient of a solution, by differentiating the equation that it satisfies."""

from typing import Any

import torch
from torch import Tensor

from sparsact.coding.duality import rows
from sparsact.coding.problem import Problem

_MOST_STEPS = 1000


def attach_gradient(problem: Problem, solution: Tensor) -> Tensor:
    """`solution` with its gradient to the signals, the dictionary and the penalty.

    A solution is a fixed point ``z = T(z)`` of the proximal gradient step. One differentiable step
    gives ∂T to all parameters; the factor ``(I − ∂T/∂z)⁻¹`` is applied in the backward pass. With
    ``J = P·(I − step·DᵀD)``, P the Jacobian of the prox, that is the solution of a linear system
    in the entries where P is not 0, found by conjugate gradients (P is symmetric).

    The gradient is exact where the solution is unique and no entry lies on the edge of the band.

    Source:
        Bertrand et al., "Implicit differentiation for fast hyperparameter selection in non-smooth
        convex learning" (2022).
    """
    codes = solution.detach()
    with torch.enable_grad():
        step = 1 / problem.lipschitz
        _, ascent = problem.ascent(codes)
        moved = problem.prox(codes + step * ascent, step)
    if moved.requires_grad:
        moved.register_hook(_Adjoint(problem, codes))
    # the value is the solution itself: the step moves it by less than the tolerance
    return codes + (moved - moved.detach())


class _Adjoint:
    """Turns the gradient g at a solution into ``(I − ∂T/∂z)⁻ᵀ·g``."""

    def __init__(self, problem: Problem, codes: Tensor) -> None:
        self.problem, self.codes = problem, codes
        self.step = 1 / problem.lipschitz

    @torch.no_grad()
    def __call__(self, gradient: Tensor | None) -> Tensor | None:
        """Solve ``u = g + (I − step·DᵀD)·P·u`` by conjugate gradients in ``v = P·u``.

        On the entries where P is not 0, ``(P⁻¹ − I + step·DᵀD)·v = g``; then
        ``u = g + v − step·DᵀD·v``.
        """
        if gradient is None:  # no later operation needs the codes
            return None
        slope = self._prox_slope()
        active = slope > 0
        excess = torch.where(active, 1 / slope.where(active, torch.ones_like(slope)) - 1, 0)

        def system(v: Tensor) -> Tensor:
            return torch.where(active, excess * v + self._normal(v), 0)

        v = _conjugate_gradients(system, torch.where(active, gradient, 0))
        return gradient + v - self._normal(v)

    def _normal(self, v: Tensor) -> Tensor:
        return self.step * self.problem.operator.adjoint(self.problem.operator(v))

    def _prox_slope(self) -> Tensor:
        """The diagonal of P at the solution."""
        _, ascent = self.problem.ascent(self.codes)
        with torch.enable_grad():
            x = (self.codes + self.step * ascent).requires_grad_()
            (slope,) = torch.autograd.grad(self.problem.prox(x, self.step).sum(), x)
        return slope


def _conjugate_gradients(system: Any, right: Tensor) -> Tensor:
    """Solve ``system(v) = right`` for each signal of a batch, `system` symmetric and ≥ 0."""
    shape = (len(right),) + (1,) * (right.ndim - 1)
    tolerance, tiny = 100 * torch.finfo(right.dtype).eps ** 2, torch.finfo(right.dtype).tiny
    solution, residual = torch.zeros_like(right), right
    direction, size = residual, rows(residual).square().sum(1)
    enough = tolerance * size
    for _ in range(min(_MOST_STEPS, 10 * rows(right).shape[1])):
        running = size > enough
        if not bool(running.any()):
            break
        image = system(direction)
        curvature = rows(direction * image).sum(1)
        length = torch.where(running & (curvature > 0), size / curvature.clamp(min=tiny), 0)
        solution = solution + length.view(shape) * direction
        residual = residual - length.view(shape) * image
        before, size = size, rows(residual).square().sum(1)
        ratio = torch.where(running, size / before.clamp(min=tiny), 0)
        direction = residual + ratio.view(shape) * direction
    return solution
