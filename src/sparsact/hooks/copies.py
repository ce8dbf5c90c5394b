"""Copies of a tapped module that carry no tap."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class CopyWithoutTaps:
    """Makes copying and pickling of a tapped module leave out the taps.

    While the module is tapped, this object is the instance's ``__getstate__``. If the class
    defines ``__deepcopy__`` or ``__reduce_ex__``, these are replaced on the instance as well.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = weakref.ref(module)
        self.ids: set[int] = set()
        cls = type(module)
        self.replaced: dict[str, Callable[..., Any]] = {"__getstate__": self}
        if hasattr(cls, "__deepcopy__"):
            self.replaced["__deepcopy__"] = self.deepcopy
        if (cls.__reduce_ex__, cls.__reduce__) != (object.__reduce_ex__, object.__reduce__):
            self.replaced["__reduce_ex__"] = self.reduce
        module.__dict__.update(self.replaced)

    @classmethod
    def of(cls, module: nn.Module) -> "CopyWithoutTaps":
        """Return the one of `module`; create it if there is none."""
        state = module.__dict__.get("__getstate__")
        return state if isinstance(state, cls) else cls(module)

    def forget(self, id: int) -> None:
        """Forget a removed tap; after the last one, remove this object too."""
        self.ids.discard(id)
        module = self.module()
        if module is not None and not self.ids:
            for method in self.replaced:
                module.__dict__.pop(method, None)

    def __call__(self) -> dict[str, Any]:
        """Return the state of the module without its taps, as its ``__getstate__`` would."""
        module = self.module()
        getstate = getattr(type(module), "__getstate__", None)  # Python 3.10 has none on object
        return self._without(vars(module) if getstate is None else getstate(module))

    def deepcopy(self, memo: dict[int, Any]) -> Any:
        """Copy the untapped module with the ``__deepcopy__`` of its class."""
        with self._untapped() as module:
            return type(module).__deepcopy__(module, memo)

    def reduce(self, protocol: Any) -> Any:
        """Reduce the untapped module with the ``__reduce_ex__`` or ``__reduce__`` of its class."""
        with self._untapped() as module:
            cls: Any = type(module)
            reduced = cls.__reduce_ex__(module, protocol)
            if isinstance(reduced, tuple):  # the state may be the __dict__ itself
                reduced = tuple(dict(part) if part is vars(module) else part for part in reduced)
            return reduced

    @contextmanager
    def _untapped(self) -> Iterator[Any]:
        """Yield the module with no tap in its ``__dict__``."""
        module = self.module()
        own = vars(module)
        tapped = dict(own)
        bare = self._without(own)
        own.clear()
        own.update(bare)
        try:
            yield module
        finally:
            own.update({key: tapped[key] for key in (*_HOOK_TABLES, *self.replaced)})

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """In this block, calls of the module run no tap."""
        module = self.module()
        own: dict[str, Any] = {} if module is None else vars(module)
        tapped = {table: own[table] for table in _HOOK_TABLES if table in own}
        own.update({table: self._bare_table(hooks) for table, hooks in tapped.items()})
        try:
            yield
        finally:
            own.update(tapped)

    def _bare_table(self, hooks: Mapping[int, Any]) -> "OrderedDict[int, Any]":
        return OrderedDict((id, hook) for id, hook in hooks.items() if id not in self.ids)

    def _without(self, state: Mapping[str, Any]) -> dict[str, Any]:
        bare = {key: value for key, value in state.items() if key not in self.replaced}
        for table in _HOOK_TABLES:
            bare[table] = self._bare_table(state[table])
        return bare


@contextmanager
def without_taps(module: nn.Module) -> Iterator[None]:
    """In this block, `module` and the modules inside it run without their taps."""
    with ExitStack() as hidden:
        for part in module.modules():
            copies = vars(part).get("__getstate__")
            if isinstance(copies, CopyWithoutTaps):
                hidden.enter_context(copies.hidden())
        yield
