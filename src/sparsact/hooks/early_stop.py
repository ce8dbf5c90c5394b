"""Stopping a forward early when the rest of the model is not needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class _StoppedError(Exception):
    """Leaves the forward and is caught by the block that stops it."""


@contextmanager
def stop_before(module: nn.Module | None) -> Iterator[None]:
    """In this block, a forward stops just before `module` is called.

    Args:
        module: the first module that is not called; None runs the complete forward.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
        >>> shapes = []
        >>> handle = model[0].register_forward_hook(lambda m, x, y: shapes.append(y.shape))
        >>> with stop_before(model[1]):
        ...     model(torch.ones(1, 2))
        >>> shapes
        [torch.Size([1, 3])]
    """
    if module is None:
        yield
        return
    stopped, stop = _stop()
    handle = module.register_forward_pre_hook(stop)
    try:
        with _ended_by(stopped):
            yield
    finally:
        handle.remove()


@contextmanager
def stop_after(module: nn.Module) -> Iterator[None]:
    """In this block, a forward stops after `module` has been called.

    Hooks that were installed on `module` before the block still see its output.
    """
    stopped, stop = _stop()
    handle = module.register_forward_hook(stop)
    try:
        with _ended_by(stopped):
            yield
    finally:
        handle.remove()


def _stop() -> tuple[_StoppedError, Any]:
    """Return an exception and a hook that raises it."""
    stopped = _StoppedError()

    def hook(*_: object) -> None:
        raise stopped

    return stopped, hook


@contextmanager
def _ended_by(stopped: _StoppedError) -> Iterator[None]:
    try:
        yield
    except _StoppedError as error:
        if error is not stopped:  # it belongs to an outer block
            raise
