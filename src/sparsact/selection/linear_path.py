"""The lasso path of a linear model: which features enter first."""

import math

import torch
from torch import Tensor

from sparsact.penalties import GroupLasso
from sparsact.selection.problem import Problem

_LEVELS = 40
_SMALLEST = 1e-3


def lasso_order(problem: Problem, steps: int) -> Tensor:
    """Features in the order in which they enter the lasso path, from λ_max down.

    The weights of a feature for all outputs are one group (a grouped multinomial, or a multi-task
    lasso), so a feature that helps all classes a little can enter before one that tells a single
    class apart. With one target this is the plain lasso. Features that enter between the same two
    λ are ordered by the norm of their weights; those that never enter by their correlation with
    what is left.

    Args:
        problem: the data.
        steps: the steps of accelerated proximal gradient descent for each λ.

    Returns:
        indices of the features, (features,).
    """
    x = problem.x
    weight = x.new_zeros(problem.outputs, x.shape[1])
    bias = _best_bias(problem)
    bound = float(torch.linalg.matrix_norm(x, 2)) ** 2 / len(x)
    size = 1 / max(bound * (0.5 if problem.classifies else 1.0), 1e-12)
    gradient, _ = _gradients(problem, weight, bias)
    largest = float(gradient.norm(dim=0).max())
    entered = x.new_full((x.shape[1],), float(_LEVELS))
    strength = x.new_zeros(x.shape[1])
    for level in range(1, _LEVELS):
        penalty = GroupLasso(largest * _SMALLEST ** (level / (_LEVELS - 1)), dim=0, scale="none")
        weight, bias = _solve(problem, weight, bias, penalty, size, steps)
        norms = weight.norm(dim=0)
        new = (norms > 0) & (entered == _LEVELS)
        entered[new], strength[new] = float(level), norms[new]
        if bool((entered < _LEVELS).all()):
            break
    gradient, _ = _gradients(problem, weight, bias)
    strength = torch.where(entered == _LEVELS, gradient.norm(dim=0), strength)
    return _by(entered, -strength)


def _by(first: Tensor, second: Tensor) -> Tensor:
    order = second.argsort(stable=True)
    return order[first[order].argsort(stable=True)]


def _solve(
    problem: Problem, weight: Tensor, bias: Tensor, penalty: GroupLasso, size: float, steps: int
) -> tuple[Tensor, Tensor]:
    """FISTA, from the solution before."""
    ahead, ahead_bias, momentum = weight, bias, 1.0
    for _ in range(steps):
        gradient, bias_gradient = _gradients(problem, ahead, ahead_bias)
        new = penalty.prox(ahead - size * gradient, size)
        new_bias = ahead_bias - bias_gradient  # its own curvature is at most 1
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        factor = (momentum - 1) / following
        ahead, ahead_bias = new + factor * (new - weight), new_bias + factor * (new_bias - bias)
        weight, bias, momentum = new, new_bias, following
    return weight, bias


def _gradients(problem: Problem, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    prediction = problem.x @ weight.T + bias
    if problem.classifies:
        residual = prediction.softmax(1)
        residual[torch.arange(len(residual), device=residual.device), problem.y] -= 1
    else:
        residual = prediction - problem.y
    residual /= len(residual)
    return residual.T @ problem.x, residual.sum(0)


def _best_bias(problem: Problem) -> Tensor:
    if not problem.classifies:
        return problem.y.mean(0)
    return (torch.bincount(problem.y, minlength=problem.outputs) / len(problem.y)).log()
