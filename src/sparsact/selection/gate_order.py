"""Selection by stochastic gates on the features, whose number is controlled."""

import torch
from torch import Tensor, nn

from sparsact.control import TargetDensity
from sparsact.nn import GaussianGate
from sparsact.selection.network_path import UNITS
from sparsact.selection.problem import Problem

_LR, _DECAY = 0.02, 0.3
_GATE_LR, _GATE_MOMENTUM = 0.03, 0.9  # 0.1 can close a gate before its weight has learned


def gate_order(problem: Problem, count: int, steps: int) -> Tensor:
    """Features by the location of their gates, after `count` of them were kept open in training.

    The gates move by plain gradients with momentum. The control pulls at all of them alike, and the
    loss pulls back at each by what its feature is worth. Adam divides each gate's sum of both by
    its size, so that all gates would close at one speed, and noise would decide which stay open.

    Args:
        problem: the data.
        count: the number of features.
        steps: half the number of steps.
    """
    features = problem.x.shape[1]
    gate = GaussianGate(features)
    network = nn.Sequential(
        nn.Linear(features, UNITS), nn.ReLU(), nn.Linear(UNITS, problem.outputs)
    )
    model = nn.Sequential(gate, network)
    control = TargetDensity(model, {"0": count / features}, warmup=max(1, steps // 2))
    gate_optimizer = torch.optim.SGD(gate.parameters(), _GATE_LR, _GATE_MOMENTUM)
    optimizer = torch.optim.AdamW(network.parameters(), _LR, weight_decay=_DECAY)
    for _ in range(2 * steps):
        model.zero_grad()
        (problem.loss(model(problem.x)) + control()).backward()
        gate_optimizer.step()
        optimizer.step()
        control.step()
    return gate.location.detach().argsort(descending=True, stable=True)
