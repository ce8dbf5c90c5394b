"""Hooks that pass the tensors of selected calls to a callback."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sparsact.hooks.activation_functions import changes_its_input
from sparsact.hooks.call_counter import CallCounter, Scope, enclosing_modules
from sparsact.hooks.call_kinds import calls_functions, named_hookable_modules
from sparsact.hooks.call_patterns import CallPattern
from sparsact.hooks.call_sites import site_name
from sparsact.hooks.fast_path import keep_fast_path
from sparsact.hooks.function_calls import Entrance, FunctionCalls, check_not_in_checkpoint
from sparsact.hooks.taps import Removable, Site, Taps, passed_tensor
from sparsact.hooks.tensors import in_backward

SiteCallback = Callable[[str, int, Tensor], Tensor | None]


class CallTaps(Removable):
    """Hooks that pass one tensor of each selected call to a callback; removed together.

    A call is one of a module, or of an activation function in the forward of a module. Its name is
    the module's, or the function's such as ``block.relu()``; the second call within one forward of
    the modules around it is ``block.act#2``. The results of a forward do not change by the hooks,
    not by a bit: where torch would take a fast path without hooks, it is taken for the result.

    Args:
        model: the model.
        patterns: the selected calls.
        callback: called with the name of the call, the index of the pattern that selects it and
            the tensor; once for each such pattern. If it returns a tensor, this replaces the
            original.
        on: ``"output"`` or ``"input"``.
        select: chooses the tensor, as in :class:`Taps`.

    Attributes:
        ran: the modules and functions of which a call was seen.
    """

    def __init__(
        self,
        model: nn.Module,
        patterns: Sequence[CallPattern],
        callback: SiteCallback,
        on: Site = "output",
        select: Callable[..., Tensor] | None = None,
    ) -> None:
        self._patterns: dict[str, list[tuple[int, int | None]]] = {}
        for index, pattern in enumerate(patterns):
            for base in (*pattern.modules, *pattern.functions):
                self._patterns.setdefault(base, []).append((index, pattern.number))
        self._callback = callback
        self._is_inside_callback = False
        self._on = on
        self._select = select
        self._counter = CallCounter()
        self.ran: set[str] = set()
        modules = {name: module for pattern in patterns for name, module in pattern.modules.items()}
        functions = frozenset[str]().union(*(pattern.functions for pattern in patterns))
        self._taps = Taps(modules, self._see, on, select)
        for module, sites in enclosing_modules(model, (*modules, *functions)):
            scope = Scope(self._counter, sites)
            self._taps.around(module, scope.start, scope.end)
        if functions:
            self._enter_forwards(model, functions)
        keep_fast_path(model, self._taps)

    def around(
        self, module: nn.Module, start: Callable[..., None], end: Callable[..., None]
    ) -> None:
        """Call `start` before and `end` after the forward of `module`, as :meth:`Taps.around`."""
        self._taps.around(module, start, end)

    def remove(self) -> None:
        """Remove all hooks; a second call does nothing."""
        self._taps.remove()

    def _enter_forwards(self, model: nn.Module, bases: frozenset[str]) -> None:
        calls = FunctionCalls(bases, self._call_function)
        owners = {base.rpartition(".")[0] for base in bases}
        for name, module in named_hookable_modules(model):
            owner = name if name in owners and calls_functions(name, module) else None
            entrance = Entrance(calls, owner)
            self._taps.around(module, entrance.start, entrance.end)

    def _call_function(
        self, base: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._is_inside_callback:
            return function(*args, **kwargs)
        if self._on == "input":
            new = self._see(base, passed_tensor(base, "input", (args, kwargs), self._select))
            return function(*args, **kwargs) if new is None else function(new, *args[1:], **kwargs)
        output = function(*args, **kwargs)
        new = self._see(base, passed_tensor(base, "output", output, self._select))
        if new is None:
            return output
        check_not_in_checkpoint(base)
        return args[0].copy_(new) if changes_its_input(function, args, kwargs) else new

    def _see(self, base: str, tensor: Tensor) -> Tensor | None:
        if not in_backward():
            self.ran.add(base)
        number = self._counter.number(base)
        replaced = None
        self._is_inside_callback = True
        for index, selected in self._patterns[base]:
            if selected is None or selected == number:
                new = self._callback(site_name(base, number), index, tensor)
                if new is not None:
                    replaced = tensor = new
        self._is_inside_callback = False
        return replaced
