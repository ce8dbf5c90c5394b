"""Progress reports of everything that takes long."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

Progress = Callable[[int, int, str], None]
"""A callback: how many steps are done, how many there are, what is being done."""


def silent(done: int, total: int, label: str) -> None:
    """The callback that reports nothing."""


class ProgressCounter:
    """Counts steps and reports each to a callback.

    Args:
        total: number of steps.
        progress: the callback; None reports nothing.
        label: what is being done first.

    Attributes:
        done: number of finished steps.
        total: number of steps.
        label: what is being done; set it when a new stage begins.
    """

    def __init__(self, total: int, progress: Progress | None = None, label: str = "") -> None:
        self.done, self.total, self.label = 0, total, label
        self._progress = progress or silent

    def advance(self, steps: int = 1) -> None:
        """Report that so many more steps are done."""
        self.jump(self.done + steps)

    def jump(self, done: int) -> None:
        """Report that `done` steps are done in all."""
        self.done = done
        self._progress(done, self.total, self.label)

    def through(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; an item counts as done when the next one is requested."""
        for item in items:
            yield item
            self.advance()
