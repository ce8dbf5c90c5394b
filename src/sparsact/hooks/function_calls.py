"""Seeing, and replacing, calls of activation functions in the forward of modules."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils import checkpoint

from sparsact.hooks.activation_functions import name_of_call
from sparsact.hooks.direct_forward import direct_forward
from sparsact.hooks.function_mode import FunctionMode
from sparsact.hooks.per_thread import PerThread


class OnCall(Protocol):
    """What is done in place of a call: `base` names it, such as ``block.relu()``."""

    def __call__(
        self, base: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the output of the call."""


class _Running(PerThread):
    """The modules that run, and for each of them below how many modes the mode was left."""

    def __init__(self) -> None:
        self.owners: list[str | None] = []  # None for a module that is no owner
        self.left: list[int | None] = []


class FunctionCalls:
    """Passes calls of activation functions, written in the forward of their owners, to `on_call`.

    Calls inside the children of an owner are not its own: while a child runs, the mode is left, so
    that torch chooses the same kernels as without it.

    Args:
        bases: the names of the calls to pass, such as ``block.relu()``.
        on_call: called in place of each.
        owners: the modules in whose forwards the calls are written.
        on_direct: called if a module inside an owner runs, and the owner's forward was called
            without its hooks, so that its own calls are not seen.
    """

    def __init__(
        self,
        bases: frozenset[str],
        on_call: OnCall,
        owners: Collection[nn.Module],
        on_direct: Callable[[nn.Module], None],
    ) -> None:
        self.bases = bases
        self.on_call = on_call
        self.owners = owners
        self.on_direct = on_direct
        self._mode = FunctionMode(self)
        self._running = _Running()

    def enter(self, owner: str | None) -> None:
        """A module begins its forward: an owner, by its name, or a module that is none."""
        running = self._running
        is_outermost = not running.owners
        running.left.append(self._leave())
        running.owners.append(owner)
        if owner is not None:
            _push_mode(self._mode)
        elif is_outermost and (direct := direct_forward(self.owners)) is not None:
            self.on_direct(direct)

    def exit(self) -> None:
        """The module that began last ends its forward."""
        running = self._running
        if not running.owners:  # a hook failed before the begin of a module that now ends
            return
        if running.owners.pop() is not None:
            self._leave()
        later = running.left.pop()
        if later is not None:
            _push_below(self._mode, later)

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Compute a call of any function of torch, or pass it on."""
        name = name_of_call(function, args, kwargs)
        owners = self._running.owners
        owner = owners[-1] if owners else None
        if name is None or owner is None:
            return function(*args, **kwargs)
        base = f"{owner}.{name}()" if owner else f"{name}()"
        if base not in self.bases:
            return function(*args, **kwargs)
        return self.on_call(base, function, args, kwargs)

    def _leave(self) -> int | None:
        """Remove the mode; return how many modes were entered later, or None if it is not there."""
        modes = _get_current_function_mode_stack()
        if self._mode not in modes:
            return None
        later = modes[modes.index(self._mode) + 1 :]
        for _ in (self._mode, *later):
            _pop_mode()
        for mode in later:
            _push_mode(mode)
        return len(later)


def _push_below(mode: TorchFunctionMode, count: int) -> None:
    """Put a mode below the `count` innermost ones, which other code expects to find innermost."""
    later = [_pop_mode() for _ in range(count)]
    _push_mode(mode)
    for other in reversed(later):
        _push_mode(other)


@contextmanager
def without_function_calls() -> Iterator[None]:
    """In this block, no function call is passed anywhere."""
    modes = _get_current_function_mode_stack()
    receivers = [mode.receiver for mode in modes if isinstance(mode, FunctionMode)]
    paused = [calls for calls in receivers if isinstance(calls, FunctionCalls)]
    for calls in paused:
        calls.enter(None)
    try:
        yield
    finally:
        for calls in reversed(paused):
            calls.exit()


class Entrance:
    """The hooks of one module that runs inside the model; they are copied with the module.

    Args:
        calls: informed of the begin and the end of the forward.
        owner: the name of the module if it is an owner.
    """

    def __init__(self, calls: FunctionCalls, owner: str | None) -> None:
        self.calls = calls
        self.owner = owner

    def start(self, *_: object) -> None:
        """Before the forward of the module."""
        self.calls.enter(self.owner)

    def end(self, *_: object) -> None:
        """After the forward of the module."""
        self.calls.exit()


def check_not_in_checkpoint(base: str) -> None:
    """Raise RuntimeError if a call runs inside a checkpointed part of its owner's forward.

    Backward recomputes that part alone, without the owner's hooks, and would miss the call.
    """
    if torch.compiler.is_compiling():
        return
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not nn.Module._call_impl.__code__:
        if frame.f_code.co_filename == checkpoint.__file__:
            raise RuntimeError(
                f"{base!r} runs inside a checkpoint that covers a part of a module's forward, and "
                "backward recomputes this part alone: checkpoint the module, not a part of it"
            )
        frame = frame.f_back
