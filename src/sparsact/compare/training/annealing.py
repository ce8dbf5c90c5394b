"""The frontier of one activation by one training, whose λ, k or penalty changes step by step."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.user_code import enough_memory
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.first_strength import first_strength
from sparsact.compare.training.knobs import RANGES, next_value, turn, value_of
from sparsact.compare.training.trained import Trained
from sparsact.compare.training.training import Training, finish, weights_of

STRETCH = 4
"""Every point after the first takes a training's epochs divided by this."""
SPARSEST = 0.02
"""The density that the last point aims at."""
LEAST_FALL = 4
"""The last point aims at a density that is lower than the first by at least this factor."""
LEAST_STEP = 1.05


def stretch(epochs: int) -> int:
    """The epochs of every point after the first."""
    return max(1, epochs // STRETCH)


def train_frontier(
    points: Sequence[Setting],
    seed: int,
    plan: Plan,
    problem: Problem,
    on_epoch: Callable[[], None],
) -> list[Trained]:
    """Train once, and let the density fall from point to point.

    The first point is an ordinary training. Before each other, the λ, k or coefficient changes so
    that the density should fall by the same factor; then the training goes on for a few epochs.

    Args:
        points: the settings, in order.
        seed: of the training.
        plan: how to train.
        problem: what is learned.
        on_epoch: called after each epoch.

    Returns:
        the record and the weights at each point.
    """
    setting = points[0]
    strength = 0.0
    if setting.kind.knob == "strength":
        strength = first_strength(setting, plan, problem)
    made: list[Trained] = []
    seen: list[tuple[float, float]] = []
    with torch.random.fork_rng(), enough_memory():
        torch.manual_seed(seed)
        order = torch.Generator().manual_seed(seed)
        training = Training(setting, seed, plan, problem)
        epochs = plan.config.epochs
        for number, point in enumerate(points, 1):
            if number > 1:
                setting = turn(setting, _next(setting, seen, number, len(points), strength))
                training = training.continued(setting)
                epochs = stretch(plan.config.epochs)
            record = finish(training, point.label, epochs, order, on_epoch)
            record = replace(record, annealed=number, value=value_of(setting))
            made.append((record, weights_of(training.model)))
            if record.status == "finished":
                seen.append((value_of(setting) or 0.0, record.validation_density))
    return made


def _next(
    setting: Setting, seen: list[tuple[float, float]], number: int, count: int, strength: float
) -> float:
    """The next value: where the density should fall by its share, and not back."""
    knob = setting.kind.knob
    assert knob is not None
    value = value_of(setting)
    if value is None:
        return strength
    if not seen or seen[-1][1] == 0:  # diverged, or nothing is left
        return value
    first = seen[0][1]
    last = min(SPARSEST, first / LEAST_FALL)
    target = first * (last / first) ** ((number - 1) / (count - 1))
    tried = [(value, density) for value, density in seen if value > 0]
    following = next_value(knob, tried[-2:], target)
    low, high = RANGES[knob]
    if knob == "k":
        return max(min(following, value / LEAST_STEP), low)
    return min(max(following, value * LEAST_STEP), high)
