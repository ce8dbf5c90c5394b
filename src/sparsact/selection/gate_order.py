"""Selection by stochastic gates on the features, whose number is controlled."""

from typing import Any

import torch
from torch import Tensor, nn

from sparsact.control import TargetDensity
from sparsact.nn import GaussianGate
from sparsact.selection.network_path import UNITS
from sparsact.selection.problem import Problem

_LR, _DECAY = 0.02, 0.3  # without decay the network fits noise before the gates close


def gate_order(problem: Problem, count: int, steps: int) -> Tensor:
    """Features by the location of their gates, after `count` of them were kept open in training.

    Args:
        problem: the data.
        count: the number of features.
        steps: half the number of steps.
    """
    features = problem.x.shape[1]
    gate = GaussianGate(features)
    model = nn.Sequential(
        gate, nn.Linear(features, UNITS), nn.ReLU(), nn.Linear(UNITS, problem.outputs)
    )
    control = TargetDensity(model, {"0": count / features}, warmup=max(1, steps // 2))
    rest = [parameter for parameter in model.parameters() if parameter is not gate.location]
    groups: list[dict[str, Any]] = [
        {"params": [gate.location], "weight_decay": 0.0},
        {"params": rest},
    ]
    optimizer = torch.optim.AdamW(groups, lr=_LR, weight_decay=_DECAY)
    for _ in range(2 * steps):
        optimizer.zero_grad()
        (problem.loss(model(problem.x)) + control()).backward()
        optimizer.step()
        control.step()
    return gate.location.detach().argsort(descending=True, stable=True)
