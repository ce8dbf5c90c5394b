"""Choosing modules by name, type or predicate; reading their tensors by hook; swapping them."""

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Selector = str | type[nn.Module] | nn.Module | Callable[[str, nn.Module], bool]
"""A glob on dotted names (``*`` crosses dots), a module type, a module, or a predicate."""

Site = Literal["input", "output"]
T = TypeVar("T")


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
        factory: takes the old module and returns the new one. A module that is used under
            several names is replaced once, under all of them.

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
    for name, old in list(model.named_modules(remove_duplicate=False)):
        if id(old) in replacements:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replacements[id(old)])
    return {name: replacements[id(old)] for name, old in chosen.items()}


class Taps:
    """Hooks that show a callback the tensor at each of some modules; removed together.

    Args:
        modules: name → module.
        callback: called with the name and the first tensor of the module's output (or of its
            input).
        on: ``"output"`` or ``"input"``.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        callback: Callable[[str, Tensor], None],
        on: Site = "output",
    ) -> None:
        if on not in ("input", "output"):
            raise ValueError(f"on must be 'input' or 'output', got {on!r}")
        self.handles: list[RemovableHandle] = []
        for name, module in modules.items():
            if on == "output":
                handle = module.register_forward_hook(_output_hook(name, callback))
            else:
                handle = module.register_forward_pre_hook(
                    _input_hook(name, callback), with_kwargs=True
                )
            self.handles.append(handle)

    def remove(self) -> None:
        """Take every hook away; a second call does nothing."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


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


def _output_hook(name: str, callback: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def hook(module: nn.Module, args: object, output: object) -> None:
        callback(name, _require_tensor(name, "output", output))

    return hook


def _input_hook(name: str, callback: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        callback(name, _require_tensor(name, "input", (*args, kwargs)))

    return hook


def _require_tensor(name: str, site: Site, value: object) -> Tensor:
    tensor = first_tensor(value)
    if tensor is None:
        raise TypeError(f"the {site} of {name!r} holds no tensor: {type(value).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"the {site} of {name!r} is not floating point but {tensor.dtype}")
    return tensor


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
