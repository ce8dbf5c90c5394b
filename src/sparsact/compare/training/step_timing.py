"""Measure how long a training step takes with each activation, side by side."""

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress

import torch

from sparsact.compare.problems.batches import Batch
from sparsact.compare.problems.problem import Problem
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.tally import Diverged
from sparsact.compare.training.training import Training

ROUNDS = 15
STEPS_PER_ROUND = 4
FEWEST_ROUNDS = 3
LONGEST_S = 3.0
"""Where the rounds of two activations would take longer, they are fewer and have one step."""


def time_steps(settings: Sequence[Setting], plan: Plan, problem: Problem) -> dict[str, float]:
    """Median step time of each activation over ReLU's, measured alternately.

    In each round an activation and ReLU train a few steps on the same batch, so a change in the
    load of the machine affects both. The networks are new ones, not those of the trainings; two
    are in memory at a time.

    Returns:
        activation → ratio to ReLU in the same round, the median over the rounds. Activations
        that diverge are left out.
    """
    one_each: dict[str, Setting] = {}
    for setting in settings:
        one_each.setdefault(setting.activation, setting)
    batch = next(problem.train.shuffled(torch.Generator().manual_seed(0)))
    ratios: dict[str, float] = {"relu": 1.0}
    for name, setting in one_each.items():
        if name != "relu":
            with torch.random.fork_rng(), suppress(Diverged):
                pair = [Training(one, 0, plan, problem) for one in (setting, one_each["relu"])]
                ratios[name] = _ratio(pair[0], pair[1], batch)
    return ratios


def _ratio(training: Training, reference: Training, batch: Batch) -> float:
    pair = training, reference
    for one in pair:
        _time_round(one, batch, 1)  # warms up
    seconds = sum(_time_round(one, batch, 1) for one in pair)
    is_slow = seconds * STEPS_PER_ROUND * ROUNDS > LONGEST_S
    steps = 1 if is_slow else STEPS_PER_ROUND
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, round(LONGEST_S / (seconds * steps))))
    return statistics.median(
        _time_round(training, batch, steps) / _time_round(reference, batch, steps)
        for _ in range(rounds)
    )


def _time_round(training: Training, batch: Batch, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        training.step(batch)  # reads the loss, so an accelerator has finished
    return time.perf_counter() - start
