"""An optimizer and the schedules of its learning rate, in all forms that Lightning allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from sparsact._common.errors import InputError


@dataclass
class Schedule:
    """A scheduler and when it steps.

    Attributes:
        scheduler: of torch.
        interval: what it counts.
        frequency: it steps at every so many of them.
        count: how many there were.
    """

    scheduler: Any
    interval: Literal["epoch", "step"] = "epoch"
    frequency: int = 1
    count: int = 0

    def passed(self, interval: str, score: float = 0.0, highest: float = 0.0) -> None:
        """An epoch or a step has passed.

        Args:
            interval: which of them.
            score: on the validation part, for a scheduler that waits for a plateau.
            highest: the highest score there is; what is missing is to be small.
        """
        if interval != self.interval:
            return
        self.count += 1
        if self.count % self.frequency:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            # relative thresholds of torch need a positive number
            self.scheduler.step(score if self.scheduler.mode == "max" else highest - score)
        else:
            self.scheduler.step()


class Updates:
    """Updates of the parameters.

    Args:
        optimizer: makes them.
        schedules: of its learning rate.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedules: Sequence[Schedule] = ()
    ) -> None:
        self.optimizer = optimizer
        self.schedules = tuple(schedules)

    def step(self) -> None:
        """Update the parameters by their gradients."""
        self.optimizer.step()
        for schedule in self.schedules:
            schedule.passed("step")

    def end_epoch(self, score: float, highest: float) -> None:
        """Let the schedules know that an epoch has ended with a validation score."""
        for schedule in self.schedules:
            schedule.passed("epoch", score, highest)

    def go_on_from(self, other: "Updates") -> None:
        """Take over the state of the same optimizer and schedules of an equal network."""
        self.optimizer.load_state_dict(other.optimizer.state_dict())
        for own, theirs in zip(self.schedules, other.schedules, strict=True):
            own.scheduler.load_state_dict(theirs.scheduler.state_dict())
            own.count = theirs.count


def updates_of(made: Any) -> Updates:
    """Read what ``configure_optimizers`` returns: see its documentation in Lightning.

    Args:
        made: an optimizer; a dict with ``optimizer`` and ``lr_scheduler``; a list of one of them;
            or a list of optimizers and a list of schedulers.

    Raises:
        InputError: it is something else, or has more than one optimizer.
    """
    if isinstance(made, torch.optim.Optimizer):
        return Updates(made)
    if isinstance(made, Mapping) and isinstance(made.get("optimizer"), torch.optim.Optimizer):
        scheduler = made.get("lr_scheduler")
        return Updates(made["optimizer"], [] if scheduler is None else [_schedule(scheduler)])
    if isinstance(made, (list, tuple)) and made:
        if len(made) == 2 and all(isinstance(part, (list, tuple)) for part in made):
            optimizers, schedulers = made
        else:
            optimizers, schedulers = made, ()
        if len(optimizers) > 1:
            raise InputError(f"returns {len(optimizers)} optimizers; only one can be used")
        if len(optimizers) == 1:
            updates = updates_of(optimizers[0])
            schedules = (*updates.schedules, *map(_schedule, schedulers))
            return Updates(updates.optimizer, schedules)
    raise InputError(f"must return an optimizer of torch, got {type(made).__name__}")


def _schedule(made: Any) -> Schedule:
    """A scheduler, or a dict that says when it steps."""
    options: Mapping[str, Any] = made if isinstance(made, Mapping) else {"scheduler": made}
    scheduler = options.get("scheduler")
    interval = options.get("interval", "epoch")
    frequency = options.get("frequency", 1)
    if not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau)):
        raise InputError(f"has no scheduler of torch, but {type(scheduler).__name__}")
    if interval not in ("epoch", "step") or not isinstance(frequency, int) or frequency < 1:
        raise InputError(f"has a scheduler with interval={interval!r}, frequency={frequency!r}")
    if interval == "step" and isinstance(scheduler, ReduceLROnPlateau):
        raise InputError("has a ReduceLROnPlateau for each step; there is a score for each epoch")
    return Schedule(scheduler, interval, frequency)
