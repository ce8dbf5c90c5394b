"""Copies of a hooked module that carry no hook of ours."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    """Makes copying and pickling take everything of a tapped module but the taps.

    For as long as the module is tapped it stands on the instance as ``__getstate__``, and, where
    the class has ways of its own, as ``__deepcopy__`` and ``__reduce_ex__``.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = weakref.ref(module)
        self.ids: set[int] = set()
        cls = type(module)
        self.ways: dict[str, Callable[..., Any]] = {"__getstate__": self}
        if hasattr(cls, "__deepcopy__"):
            self.ways["__deepcopy__"] = self.deepcopy
        if (cls.__reduce_ex__, cls.__reduce__) != (object.__reduce_ex__, object.__reduce__):
            self.ways["__reduce_ex__"] = self.reduce
        module.__dict__.update(self.ways)

    @classmethod
    def of(cls, module: nn.Module) -> "CopyWithoutTaps":
        """The one of `module`, put there if it has none yet."""
        state = module.__dict__.get("__getstate__")
        return state if isinstance(state, cls) else cls(module)

    def forget(self, id: int) -> None:
        """A tap is gone; the last one takes this object with it."""
        self.ids.discard(id)
        module = self.module()
        if module is not None and not self.ids:
            for way in self.ways:
                module.__dict__.pop(way, None)

    def __call__(self) -> dict[str, Any]:
        """The state of the module without its taps, as ``__getstate__`` gives it."""
        module = self.module()
        whole = getattr(type(module), "__getstate__", None)  # Python 3.10 has none on object
        return self._without(whole(module) if whole is not None else vars(module))

    def deepcopy(self, memo: dict[int, Any]) -> Any:
        """What the class's own ``__deepcopy__`` makes of the untapped module."""
        with self._untapped() as module:
            return type(module).__deepcopy__(module, memo)

    def reduce(self, protocol: Any) -> Any:
        """What the class's own ``__reduce_ex__`` or ``__reduce__`` makes of it."""
        with self._untapped() as module:
            cls: Any = type(module)
            reduced = cls.__reduce_ex__(module, protocol)
            if isinstance(reduced, tuple):  # the state may be the very __dict__
                reduced = tuple(dict(part) if part is vars(module) else part for part in reduced)
            return reduced

    @contextmanager
    def _untapped(self) -> Iterator[Any]:
        """The module while its ``__dict__`` knows of no tap."""
        module = self.module()
        own = vars(module)
        tapped = dict(own)
        bare = self._without(own)
        own.clear()
        own.update(bare)
        try:
            yield module
        finally:
            own.update({key: tapped[key] for key in (*_HOOK_TABLES, *self.ways)})

    def _without(self, state: Mapping[str, Any]) -> dict[str, Any]:
        bare = {key: value for key, value in state.items() if key not in self.ways}
        for table in _HOOK_TABLES:
            kept = ((id, hook) for id, hook in state[table].items() if id not in self.ids)
            bare[table] = OrderedDict(kept)
        return bare
