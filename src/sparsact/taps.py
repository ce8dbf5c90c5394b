"""Choosing modules by name, type or predicate; reading their tensors by hook; swapping them."""

import difflib
import weakref
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.hooks import RemovableHandle

Selector = str | type[nn.Module] | nn.Module | Callable[[str, nn.Module], bool]
"""A glob on dotted names (``*`` crosses dots), a module type, a module, or a predicate."""

Site = Literal["input", "output"]
TapCallback = Callable[[str, Tensor], Tensor | None]
T = TypeVar("T")
Self = TypeVar("Self")  # typing.Self from Python 3.11 on

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
_DATA_PARALLEL = (
    "nn.DataParallel runs copies of the model in threads, whose activations would be mixed or "
    "lost; use torch.nn.parallel.DistributedDataParallel"
)


def select_modules(model: nn.Module, selector: Selector) -> dict[str, nn.Module]:
    """The modules of `model` that `selector` chooses, by name.

    Args:
        model: any module; its own name is the empty string.
        selector: a glob on dotted names, a module type, a module or a predicate of name and
            module.

    Returns:
        name → module, in the order of ``named_modules``; a module with two names comes once.

    Raises:
        ValueError: nothing matches; the message gives the nearest names.
    """
    return _select(dict(model.named_modules(remove_duplicate=False)), selector, "module")


def assign_modules(model: nn.Module, spec: Mapping[Selector, T]) -> dict[str, tuple[nn.Module, T]]:
    """Resolve a mapping from selectors to values into name → (module, value).

    Raises:
        ValueError: a selector matches nothing, or two match the same module.
    """
    return _assign(dict(model.named_modules(remove_duplicate=False)), spec, "module")


def assign_parameters(model: nn.Module, spec: Mapping[str, T]) -> dict[str, tuple[nn.Parameter, T]]:
    """Resolve a mapping from globs on parameter names into name → (parameter, value).

    Raises:
        ValueError: a pattern matches nothing, or two match the same parameter.
    """
    return _assign(dict(model.named_parameters(remove_duplicate=False)), spec, "parameter")


def swap(
    model: nn.Module, selector: Selector, factory: Callable[[Any], nn.Module]
) -> dict[str, nn.Module]:
    """Replace the chosen modules of `model` in place.

    Args:
        model: the model; it is changed.
        selector: which modules; see :func:`select_modules`.
        factory: takes the old module and returns the new one, which is put into its training or
            eval mode. A module that is used under several names is replaced once, under all.

    Returns:
        name → new module.

    Raises:
        ValueError: nothing matches, or the model itself does (it has no parent to hold it).
        TypeError: `factory` returns something that is not a module.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> swap(model, nn.ReLU, lambda old: sa.nn.JumpReLU(0.1))
        {'1': JumpReLU(lambd=0.1)}
    """
    chosen = select_modules(model, selector)
    if "" in chosen:
        raise ValueError(
            f"{_describe(selector)} matches the model itself, which has no parent to hold its "
            "replacement; wrap it in nn.Sequential"
        )
    replacements = {id(old): factory(old) for old in chosen.values()}
    for new in replacements.values():
        if not isinstance(new, nn.Module):
            raise TypeError(f"factory must return a module, got {type(new).__name__}")
    for old in chosen.values():
        replacements[id(old)].train(old.training)
    for name, old in list(model.named_modules(remove_duplicate=False)):
        if id(old) in replacements:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replacements[id(old)])
    return {name: replacements[id(old)] for name, old in chosen.items()}


class Removable(ABC):
    """What holds hooks on a model until it is removed, or until its ``with`` block ends."""

    @abstractmethod
    def remove(self) -> None:
        """Take the hooks away."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Taps:
    """Hooks that show a callback the tensor at each of some modules; removed together.

    Copies of a tapped module, by ``copy.deepcopy`` or pickling, carry no tap.

    Args:
        modules: name → module.
        callback: called with the name and the tensor; what it returns, unless None, takes the
            tensor's place.
        on: ``"output"`` or ``"input"``.
        select: picks the tensor: called with the module's output, or with its positional and
            keyword inputs. By default it is the first tensor in them.

    Raises:
        TypeError: at a forward, when there is no floating-point tensor to show.
        RuntimeError: at a forward of a copy that ``nn.DataParallel`` made.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        callback: TapCallback,
        on: Site = "output",
        select: Callable[..., Tensor] | None = None,
    ) -> None:
        if on not in ("input", "output"):
            raise ValueError(f"on must be 'input' or 'output', got {on!r}")
        self._held: list[tuple[nn.Module, RemovableHandle]] = []
        for name, module in modules.items():
            if on == "output":
                handle = module.register_forward_hook(_output_hook(name, callback, select))
            else:
                hook = _input_hook(name, callback, select)
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            self._hold(module, handle)

    def around(
        self, module: nn.Module, start: Callable[..., None], end: Callable[..., None]
    ) -> None:
        """Call `start` before the forward of `module` and every other tap, `end` after it.

        `start` gets the module, its positional and its keyword inputs; `end` is called even when
        the forward fails, with the module, the inputs and the output.
        """
        before = module.register_forward_pre_hook(start, prepend=True, with_kwargs=True)
        self._hold(module, before)
        self._hold(module, module.register_forward_hook(end, always_call=True))

    def remove(self) -> None:
        """Take every hook away; a second call does nothing."""
        for module, handle in self._held:
            handle.remove()
            _CopyWithoutTaps.of(module).forget(handle.id)
        self._held.clear()

    def _hold(self, module: nn.Module, handle: RemovableHandle) -> None:
        self._held.append((module, handle))
        _CopyWithoutTaps.of(module).ids.add(handle.id)


def check_hookable(model: nn.Module) -> None:
    """Raise RuntimeError where hooks would be ignored or would run on copies.

    A module that is compiled already does not see hooks that come later; ``nn.DataParallel``
    runs copies of the model, in threads.
    """
    for name, module in model.named_modules():
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise RuntimeError(
                f"module {name!r} is compiled already, and torch.compile ignores hooks that are "
                "installed later: hang them on the model first, then compile it"
            )
        if isinstance(module, nn.DataParallel):
            raise RuntimeError(_DATA_PARALLEL)


def shared_parameters(model: nn.Module) -> set[int]:
    """The ids of parameters that stand in several places, as in an embedding and an output head."""
    places = Counter(
        id(parameter) for module in model.modules() for parameter in module._parameters.values()
    )
    return {parameter for parameter, count in places.items() if count > 1} - {id(None)}


def version_of(x: Tensor) -> int:
    """How often a tensor was changed in place; -1 where that is not counted, in inference mode."""
    return -1 if x.is_inference() else x._version


def first_tensor(value: object) -> Tensor | None:
    """The first tensor in what a module takes or returns: a tensor, tuple, dict or nesting."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def in_backward() -> bool:
    """Whether a backward pass runs now, as when a checkpoint recomputes its forward."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class _CopyWithoutTaps:
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
    def of(cls, module: nn.Module) -> "_CopyWithoutTaps":
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


def _output_hook(
    name: str, callback: TapCallback, select: Callable[..., Tensor] | None
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: object, output: object) -> Any:
        _check_not_replica(module)
        chosen = first_tensor(output) if select is None else select(output)
        tensor = _require_tensor(name, "output", chosen, output)
        new = callback(name, tensor)
        return None if new is None else _replace(name, output, tensor, new)

    return hook


def _input_hook(
    name: str, callback: TapCallback, select: Callable[..., Tensor] | None
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        _check_not_replica(module)
        inputs = (args, kwargs)
        chosen = first_tensor(inputs) if select is None else select(*args, **kwargs)
        tensor = _require_tensor(name, "input", chosen, inputs)
        new = callback(name, tensor)
        return None if new is None else _replace(name, inputs, tensor, new)

    return hook


def _check_not_replica(module: nn.Module) -> None:
    if getattr(module, "_is_replica", False):
        raise RuntimeError(_DATA_PARALLEL)


def _require_tensor(name: str, site: Site, tensor: object, source: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"the {site} of {name!r} holds no tensor: {type(source).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"the {site} of {name!r} is not floating point but {tensor.dtype}")
    return tensor


def _replace(name: str, value: object, old: Tensor, new: Tensor) -> Any:
    """`value`, a tensor or a nesting of containers, with `new` where `old` was."""
    if value is old:
        return new
    leaves, layout = tree_flatten(value)
    if not any(leaf is old for leaf in leaves):
        raise TypeError(
            f"the tensor of {name!r} cannot be exchanged inside {type(value).__name__}: it is no "
            "container that torch.utils._pytree knows, or select= made a new tensor"
        )
    return tree_unflatten([new if leaf is old else leaf for leaf in leaves], layout)


def _assign(
    candidates: Mapping[str, Any], spec: Mapping[Any, T], kind: str
) -> dict[str, tuple[Any, T]]:
    if not isinstance(spec, Mapping):
        raise TypeError(f"expected a mapping from {kind} patterns, got {type(spec).__name__}")
    if not spec:
        raise ValueError(f"expected at least one {kind} pattern, got an empty mapping")
    assigned: dict[str, tuple[Any, T]] = {}
    owner: dict[int, Any] = {}
    for selector, value in spec.items():
        for name, target in _select(candidates, selector, kind).items():
            if id(target) in owner:
                raise ValueError(
                    f"{kind} {name!r} is matched by {_describe(owner[id(target)])} and by "
                    f"{_describe(selector)}; one {kind} takes one"
                )
            owner[id(target)] = selector
            assigned[name] = (target, value)
    return assigned


def _select(candidates: Mapping[str, Any], selector: Any, kind: str) -> dict[str, Any]:
    matches = _predicate(selector)
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, target in candidates.items():
        if id(target) not in seen and matches(name, target):
            seen.add(id(target))
            found[name] = target
    if not found:
        raise ValueError(f"no {kind} matches {_describe(selector)}{_suggest(candidates, selector)}")
    return found


def _predicate(selector: Any) -> Callable[[str, Any], bool]:
    if isinstance(selector, str):
        return lambda name, target: fnmatchcase(name, selector)
    if isinstance(selector, type):
        return lambda name, target: isinstance(target, selector)
    if isinstance(selector, nn.Module):
        return lambda name, target: target is selector
    if callable(selector):
        return selector  # type: ignore[no-any-return]
    raise TypeError(
        "expected a glob on names, a module type, a module or a predicate, got "
        f"{type(selector).__name__}"
    )


def _describe(selector: Any) -> str:
    if isinstance(selector, type):
        return f"type {selector.__name__}"
    return repr(selector)


def _suggest(candidates: Mapping[str, Any], selector: Any) -> str:
    names = [name for name in candidates if name]
    if isinstance(selector, type):
        names = sorted({type(target).__name__ for target in candidates.values()})
        selector = selector.__name__
    if not isinstance(selector, str):
        return ""
    near = difflib.get_close_matches(selector, names, n=3, cutoff=0.4)
    near = near or difflib.get_close_matches(
        selector.strip("*.?"), {name.rpartition(".")[2] for name in names}, n=3, cutoff=0.4
    )
    if near:
        return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "; there are " + ", ".join(repr(name) for name in names[:8])
