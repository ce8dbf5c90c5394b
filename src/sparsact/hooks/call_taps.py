"""Hooks that pass the tensors of selected calls to a callback."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sparsact.hooks.activation_functions import changes_its_input
from sparsact.hooks.call_counter import CallCounter, Scope, enclosing_modules
from sparsact.hooks.call_kinds import calls_functions, named_hookable_modules
from sparsact.hooks.call_patterns import CallPattern
from sparsact.hooks.call_sites import site_name
from sparsact.hooks.direct_forward import direct_forward
from sparsact.hooks.fast_path import keep_fast_path
from sparsact.hooks.function_calls import Entrance, FunctionCalls, check_not_in_checkpoint
from sparsact.hooks.per_thread import PerThread
from sparsact.hooks.taps import Removable, Site, Taps, check_hookable, passed_tensor
from sparsact.hooks.tensors import in_backward

SiteCallback = Callable[[str, int, Tensor], Tensor | None]


class _Callback(PerThread):
    """Whether the callback runs; functions that it calls are not calls of the model."""

    def __init__(self) -> None:
        self.runs = False


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
            the tensor, real or complex; once for each such pattern. If it returns a tensor, this
            replaces the original.
        on: ``"output"`` or ``"input"``.
        select: chooses the tensor, as in :class:`Taps`.
        around: called before and after each forward of the model, as in :meth:`Taps.around`.

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
        around: tuple[Callable[..., None], Callable[..., None]] | None = None,
    ) -> None:
        self._model = model
        self._callback = callback
        self._inside = _Callback()
        self._on: Site = on
        self._select = select
        self._around = around
        self.ran: set[str] = set()
        self._taps: Taps | None = None
        self._modules = {name: m for pattern in patterns for name, m in pattern.modules.items()}
        self._functions = frozenset[str]().union(*(pattern.functions for pattern in patterns))
        self._patterns: dict[str, list[tuple[int, int | None]]] = {}
        for index, pattern in enumerate(patterns):
            for base in (*pattern.modules, *pattern.functions):
                self._patterns.setdefault(base, []).append((index, pattern.number))
        self.attach()

    def attach(self) -> None:
        """Install the hooks again after `remove`; while they are installed, do nothing.

        Raises:
            RuntimeError: the model is compiled already, or contains an ``nn.DataParallel``.
        """
        if self._taps is not None:
            return
        check_hookable(self._model)
        self._counter = CallCounter()
        self._enclosing: dict[str, set[nn.Module]] = {}
        self._has_warned = False
        self._taps = Taps(self._modules, self._see, self._on, self._select, takes_complex=True)
        for module, sites in enclosing_modules(self._model, (*self._modules, *self._functions)):
            scope = Scope(self._counter, sites)
            for site in sites:
                self._enclosing.setdefault(site, set()).add(module)
            self._taps.around(module, scope.start, scope.end)
        if self._functions:
            self._enter_forwards(self._taps)
        keep_fast_path(self._model, self._taps)
        if self._around is not None:
            self._taps.around(self._model, *self._around)

    def remove(self) -> None:
        """Remove all hooks; a second call does nothing."""
        if self._taps is not None:
            self._taps.remove()
        self._taps = None

    def lost_hooks(self) -> list[str]:
        """Return the names of selected modules whose hooks other code has removed."""
        lost = set[nn.Module]() if self._taps is None else self._taps.lost()
        return [name for name, module in self._modules.items() if module in lost]

    def watches(self, model: nn.Module) -> bool:
        """Whether the hooks are on `model`, on a part of it, or on a model that contains it."""
        return self._model in model.modules() or model in self._model.modules()

    def _enter_forwards(self, taps: Taps) -> None:
        names = {base.rpartition(".")[0] for base in self._functions}
        modules = dict(named_hookable_modules(self._model))
        owners = {module for name, module in modules.items() if name in names}
        calls = FunctionCalls(self._functions, self._call_function, owners, self._warn)
        for name, module in modules.items():
            owner = name if name in names and calls_functions(name, module) else None
            entrance = Entrance(calls, owner)
            taps.around(module, entrance.start, entrance.end)

    def _warn(self, module: nn.Module) -> None:
        """Say once that the forward of a module was called without its hooks."""
        if not self._has_warned and not in_backward():
            self._has_warned = True
            warnings.warn(
                f"the forward of {type(module).__name__} was called directly, which ignores hooks: "
                "calls in it are missed, or not numbered; call module(x), not module.forward(x)",
                stacklevel=2,
            )

    def _call_function(
        self, base: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._inside.runs:
            return function(*args, **kwargs)
        if self._on == "input":
            new = self._see(base, self._passed(base, (args, kwargs)))
            return function(*args, **kwargs) if new is None else function(new, *args[1:], **kwargs)
        output = function(*args, **kwargs)
        new = self._see(base, self._passed(base, output))
        if new is None:
            return output
        check_not_in_checkpoint(base)
        return args[0].copy_(new) if changes_its_input(function, args, kwargs) else new

    def _passed(self, base: str, value: Any) -> Tensor:
        return passed_tensor(base, self._on, value, self._select, takes_complex=True)

    def _see(self, base: str, tensor: Tensor) -> Tensor | None:
        if not in_backward():
            self.ran.add(base)
        enclosing = () if self._counter.is_inside(base) else self._enclosing.get(base, ())
        if enclosing and (direct := direct_forward(enclosing)) is not None:
            self._warn(direct)
        number = self._counter.number(base)
        replaced = None
        self._inside.runs = True
        try:
            for index, selected in self._patterns[base]:
                if selected is None or selected == number:
                    new = self._callback(site_name(base, number), index, tensor)
                    if new is not None:
                        replaced = tensor = new
        finally:
            self._inside.runs = False
        return replaced
