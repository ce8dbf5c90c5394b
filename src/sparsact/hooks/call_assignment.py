"""Assigning values, such as penalties, to the calls that selectors select."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from torch import nn

from sparsact._common.errors import InputError
from sparsact.hooks.call_patterns import CallPattern, CallSelector, call_pattern
from sparsact.hooks.selection import check_spec, describe

T = TypeVar("T")


def assign_calls(model: nn.Module, spec: Mapping[CallSelector, T]) -> list[tuple[CallPattern, T]]:
    """Turn selector → value into patterns with their values: one for each module or function glob.

    Raises:
        InputError: a selector matches nothing, or two selectors match the same call.
    """
    check_spec(spec, "pattern")
    assigned: list[tuple[CallPattern, T]] = []
    for selector, value in spec.items():
        for part in _parts(selector, call_pattern(model, selector)):
            for other, _ in assigned:
                _check_distinct(part, other)
            assigned.append((part, value))
    return assigned


def _parts(selector: CallSelector, pattern: CallPattern) -> Iterator[CallPattern]:
    """The pattern itself, or one for each of its modules."""
    if not pattern.modules:
        yield replace(pattern, source=describe(selector))
    for name, module in pattern.modules.items():
        text = name if pattern.number is None else f"{name}#{pattern.number}"
        yield replace(pattern, text=text, source=describe(selector), modules={name: module})


def _check_distinct(one: CallPattern, other: CallPattern) -> None:
    same = {id(module) for module in one.modules.values()} & {
        id(module) for module in other.modules.values()
    }
    if not same and one.functions.isdisjoint(other.functions):
        return
    if None in (one.number, other.number) or one.number == other.number:
        kind = "module" if same else "function"
        raise InputError(
            f"{kind} {one.text!r} is matched by {other.source} and by "
            f"{one.source}; one {kind} takes one pattern"
        )
