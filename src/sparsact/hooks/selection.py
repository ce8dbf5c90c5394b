"""Selecting modules and parameters by name, type or predicate."""

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import nn

from sparsact._common.errors import InputError

Selector = str | type[nn.Module] | nn.Module | Callable[[str, nn.Module], bool]
"""A glob on dotted names (``*`` crosses dots), a module type, a module, or a predicate."""

T = TypeVar("T")


def select_modules(model: nn.Module, selector: Selector) -> dict[str, nn.Module]:
    """Select modules of `model`.

    Args:
        model: any module; its own name is the empty string.
        selector: a glob on dotted names, a module type, a module, or a predicate of name and
            module.

    Returns:
        name → module, in the order of ``named_modules``. A module with two names appears once.

    Raises:
        InputError: nothing matches; the message gives the nearest names.
    """
    return _select(dict(model.named_modules(remove_duplicate=False)), selector, "module")


def check_spec(spec: object, key: str) -> None:
    """Raise unless `spec` is a mapping from at least one key; `key` says what a key is."""
    if not isinstance(spec, Mapping):
        raise TypeError(f"expected a mapping from {key}s, got {type(spec).__name__}")
    if not spec:
        raise InputError(f"expected at least one {key}, got an empty mapping")


def assign_parameters(model: nn.Module, spec: Mapping[str, T]) -> dict[str, tuple[nn.Parameter, T]]:
    """Turn glob on parameter names → value into name → (parameter, value).

    Raises:
        InputError: a glob matches nothing, or two globs match the same parameter.
    """
    check_spec(spec, "parameter pattern")
    candidates = dict(model.named_parameters(remove_duplicate=False))
    assigned: dict[str, tuple[nn.Parameter, T]] = {}
    owner: dict[int, str] = {}
    for glob, value in spec.items():
        for name, parameter in _select(candidates, glob, "parameter").items():
            if id(parameter) in owner:
                raise InputError(
                    f"parameter {name!r} is matched by {owner[id(parameter)]!r} and by {glob!r}; "
                    "one parameter takes one pattern"
                )
            owner[id(parameter)] = glob
            assigned[name] = (parameter, value)
    return assigned


def _select(candidates: Mapping[str, Any], selector: Any, kind: str) -> dict[str, Any]:
    matches = _predicate(selector)
    selected: dict[str, Any] = {}
    seen: set[int] = set()
    for name, target in candidates.items():
        if id(target) not in seen and matches(name, target):
            seen.add(id(target))
            selected[name] = target
    if not selected:
        raise InputError(f"no {kind} matches {describe(selector)}{_suggest(candidates, selector)}")
    return selected


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


def describe(selector: Any) -> str:
    """Describe a selector for an error message."""
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
    nearest = difflib.get_close_matches(selector, names, n=3, cutoff=0.4)
    nearest = nearest or difflib.get_close_matches(
        selector.strip("*.?"), {name.rpartition(".")[2] for name in names}, n=3, cutoff=0.4
    )
    if nearest:
        return "; did you mean " + " or ".join(repr(name) for name in nearest) + "?"
    return "; the first names are " + ", ".join(repr(name) for name in names[:8])
