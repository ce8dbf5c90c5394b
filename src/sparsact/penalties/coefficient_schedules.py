"""Coefficients that change with the step of training.

A coefficient is a number, or any callable from the step (0, 1, …) to a number. These are the
usual callables.
"""

import math
from dataclasses import dataclass

from sparsact._common.errors import InputError


@dataclass(frozen=True)
class LinearWarmup:
    """Linear from 0 at step 0 to `coef` at step `steps`, then constant.

    Args:
        coef: the final coefficient ≥ 0.
        steps: the number of steps of the warm-up, ≥ 1.

    Example:
        >>> schedule = LinearWarmup(0.4, steps=4)
        >>> [schedule(step) for step in (0, 1, 4, 9)]
        [0.0, 0.1, 0.4, 0.4]
    """

    coef: float
    steps: int

    def __post_init__(self) -> None:
        _check(self.steps, self.coef)

    def __call__(self, step: int) -> float:
        """The coefficient at `step`."""
        return self.coef * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class CosineSchedule:
    """Half a cosine from `start` at step 0 to `end` at step `steps`, then constant.

    Args:
        start: the first coefficient ≥ 0.
        end: the final coefficient ≥ 0.
        steps: the number of steps between them, ≥ 1.

    Example:
        >>> schedule = CosineSchedule(0.0, 0.4, steps=4)
        >>> [round(schedule(step), 3) for step in (0, 1, 2, 4, 9)]
        [0.0, 0.059, 0.2, 0.4, 0.4]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check(self.steps, self.start, self.end)

    def __call__(self, step: int) -> float:
        """The coefficient at `step`."""
        share = 0.5 * (1 - math.cos(math.pi * min(step / self.steps, 1.0)))
        return self.start + (self.end - self.start) * share


def _check(steps: int, *values: float) -> None:
    if steps < 1:
        raise InputError(f"steps= must be at least 1, got {steps}")
    if not all(0 <= value < math.inf for value in values):
        raise InputError(f"coefficients must be finite and not negative, got {values}")
