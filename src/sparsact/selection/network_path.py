"""Dense-to-sparse paths of a small network: which features leave last."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsact.penalties import GroupLasso
from sparsact.selection.hierarchical_prox import hierarchical_prox
from sparsact.selection.problem import Problem

UNITS = 16
_LR, _MOMENTUM = 0.02, 0.9
_FIRST, _GROWTH, _ROUNDS = 1e-3, 1.15, 150
_BOUND = 10.0


class SkipNetwork(nn.Module):
    """A hidden layer of ReLUs, and a linear skip from the features to the outputs."""

    def __init__(self, features: int, outputs: int, skips: bool) -> None:
        super().__init__()
        self.first = nn.Linear(features, UNITS)
        self.last = nn.Linear(UNITS, outputs)
        self.skip = nn.Linear(features, outputs, bias=False) if skips else None

    def forward(self, x: Tensor) -> Tensor:
        """Scores, (samples, outputs)."""
        hidden: Tensor = self.last(self.first(x).relu())
        return hidden if self.skip is None else hidden + self.skip(x)


def group_order(problem: Problem, steps: int) -> Tensor:
    """Features by how long their weights in the first layer resist a growing group lasso."""
    network = SkipNetwork(problem.x.shape[1], problem.outputs, skips=False).to(problem.x.device)
    weight, penalty = network.first.weight, GroupLasso(1.0, dim=0, scale="none")

    def shrink(amount: float) -> Tensor:
        weight.copy_(penalty.prox(weight, amount))
        norms: Tensor = weight.norm(dim=0)
        return norms

    return _elimination(problem, network, shrink, steps)


def lassonet_order(problem: Problem, steps: int) -> Tensor:
    """Features by how long their skip weights resist in LassoNet, with M = 10."""
    network = SkipNetwork(problem.x.shape[1], problem.outputs, skips=True).to(problem.x.device)
    assert network.skip is not None
    skip, first = network.skip.weight, network.first.weight

    def shrink(amount: float) -> Tensor:
        new_skip, new_first = hierarchical_prox(skip, first, amount, _BOUND)
        skip.copy_(new_skip)
        first.copy_(new_first)
        norms: Tensor = skip.norm(dim=0)
        return norms

    return _elimination(problem, network, shrink, steps)


def _elimination(
    problem: Problem, network: SkipNetwork, shrink: Callable[[float], Tensor], steps: int
) -> Tensor:
    """Train the dense network, then with a penalty that grows until no feature is left.

    Args:
        problem: the data.
        network: trained in place.
        shrink: applies the prox with this amount, and returns the norms of the features.
        steps: the steps for the dense network; a tenth of them for each strength of the penalty.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=_LR, momentum=_MOMENTUM)
    for _ in range(steps):
        _step(problem, network, optimizer)
    norms = problem.x.new_ones(problem.x.shape[1])
    last, strength = torch.zeros_like(norms), torch.zeros_like(norms)
    penalty = _FIRST
    for level in range(1, _ROUNDS):
        for _ in range(max(1, steps // 10)):
            _step(problem, network, optimizer)
            with torch.no_grad():
                norms = shrink(penalty * _LR / (1 - _MOMENTUM))
        alive = norms > 0
        last[alive], strength[alive] = float(level), norms[alive]
        if not bool(alive.any()):
            break
        penalty *= _GROWTH
    order = strength.argsort(descending=True, stable=True)
    return order[last[order].argsort(descending=True, stable=True)]


def _step(problem: Problem, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    problem.loss(network(problem.x)).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
