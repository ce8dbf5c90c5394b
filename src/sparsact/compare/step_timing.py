"""Measure how long a training step takes with each activation, side by side."""

import statistics
import time
from collections.abc import Sequence

import torch

from sparsact.compare.data import SplitData
from sparsact.compare.training import Diverged, Training
from sparsact.compare.training_plan import Plan, Setting

ROUNDS = 15
STEPS_PER_ROUND = 4


def time_steps(settings: Sequence[Setting], plan: Plan, data: SplitData) -> dict[str, float]:
    """Median step time of each activation over ReLU's, measured alternately.

    In each round every activation trains a few steps on the same batch, so a change in the load
    of the machine affects them all. The networks are new ones, not those of the trainings.

    Returns:
        activation → ratio to ReLU in the same round, the median over the rounds. Activations
        that diverge are left out.
    """
    one_each = {setting.activation: setting for setting in reversed(settings)}
    trainings = {
        name: Training(setting, 0, plan, data) for name, setting in reversed(one_each.items())
    }
    x, y = next(trainings["relu"].batches(torch.Generator().manual_seed(0)))
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(ROUNDS + 1):
        for name, training in list(trainings.items()):
            try:
                seconds[name].append(_time_round(training, x, y))
            except Diverged:
                del trainings[name], seconds[name]
    if "relu" not in seconds:
        return {}
    reference = seconds["relu"][1:]  # the first round warms up
    return {
        name: statistics.median(a / b for a, b in zip(times[1:], reference, strict=True))
        for name, times in seconds.items()
    }


def _time_round(training: Training, x: torch.Tensor, y: torch.Tensor) -> float:
    start = time.perf_counter()
    for _ in range(STEPS_PER_ROUND):
        training.step(x, y)  # reads the loss, so an accelerator has finished
    return time.perf_counter() - start
