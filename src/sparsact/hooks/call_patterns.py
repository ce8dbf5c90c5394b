"""Patterns that select calls in a model's forward: of modules, and of activation functions."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sparsact._common.errors import InputError
from sparsact.hooks.activation_functions import CLAMP, NAMES, name_of_function
from sparsact.hooks.call_kinds import calls_functions
from sparsact.hooks.call_sites import CallSite
from sparsact.hooks.selection import Selector, describe, select_modules

CallSelector = Selector | CallSite | Callable[..., Any]
"""A selector of modules (all their calls), or of calls.

Calls are selected by a glob on the names that :func:`sparsact.activations` lists, such as
``block.act#2`` or ``encoder.*.relu()``; by an activation function, such as
``torch.nn.functional.relu``; or by a :class:`CallSite`. A glob without ``()`` selects modules.
"""


@dataclass(frozen=True)
class CallPattern:
    """The calls that one selector selects.

    Attributes:
        text: the pattern, or the function's name, as messages show it.
        source: the pattern of which this is a part; empty if it is one of its own.
        modules: name → module whose calls are selected.
        functions: the bases of selected function calls, such as ``block.relu()``; each of them
            may or may not occur in the forward.
        number: the number of the selected call; None selects all calls.
        channel_dim: the dim of the channels, where it is known.
    """

    text: str
    modules: Mapping[str, nn.Module]
    functions: frozenset[str]
    number: int | None = None
    channel_dim: int | None = None
    source: str = ""

    def is_unseen(self, ran: set[str]) -> bool:
        """Whether none of its calls was seen, given the modules and functions that ran."""
        return ran.isdisjoint(self.modules) and ran.isdisjoint(self.functions)


def call_patterns(model: nn.Module, selectors: Any) -> list[CallPattern]:
    """Find what one selector or several select, as :func:`call_pattern`."""
    if isinstance(selectors, Iterable) and not isinstance(selectors, (str, nn.Module)):
        return [call_pattern(model, selector) for selector in selectors]
    return [call_pattern(model, selectors)]


def call_pattern(model: nn.Module, selector: Any) -> CallPattern:
    """Find what a selector selects.

    Args:
        model: the model.
        selector: a selector of modules; a pattern of call sites, such as ``block.relu()`` (the
            function relu in the forward of ``block``) or ``block.act#2`` (the second call of
            ``block.act``); an activation function; or a call site.

    Raises:
        InputError: nothing can match; the message gives the nearest names.
    """
    if isinstance(selector, CallSite):
        pattern = _from_text(model, selector.base, selector.number)
        return replace(pattern, text=selector.name, channel_dim=selector.channel_dim)
    if isinstance(selector, str):
        return _from_text(model, *_base_and_number(selector))
    name = _function_name(selector)
    if name is None:
        return CallPattern(describe(selector), _modules(model, selector), frozenset())
    bases = [base for base in _function_bases(model) if base.rpartition(".")[2] == f"{name}()"]
    if not bases:
        raise InputError(
            f"no forward of the model can call {name}(): its modules are torch's own or "
            "activations; select these by name or type, as sparsact.activations() lists them"
        )
    return CallPattern(f"{name}()", {}, frozenset(bases))


def _base_and_number(text: str) -> tuple[str, int | None]:
    """Split a pattern such as ``block.act#2``."""
    base, mark, number = text.rpartition("#")
    if not mark:
        return text, None
    if number == "*":
        return base, None
    if not number.isdecimal() or int(number) < 1:
        raise InputError(f"{text!r}: after # comes the number of a call, from 1, or *")
    return base, int(number)


def _from_text(model: nn.Module, base: str, number: int | None) -> CallPattern:
    text = base if number is None else f"{base}#{number}"
    if not base.endswith("()"):
        return CallPattern(text, _modules(model, base), frozenset(), number)
    bases = _function_bases(model)
    matching = frozenset(name for name in bases if fnmatchcase(name, base))
    if not matching:
        nearest = difflib.get_close_matches(base, bases, n=3, cutoff=0.6)
        means = "; did you mean " + " or ".join(map(repr, nearest)) + "?" if nearest else ""
        raise InputError(
            f"no call site matches {base!r}{means}; sparsact.activations(model, example_input) "
            f"lists those of a model, and the functions are {', '.join((*NAMES, CLAMP))}"
        )
    return CallPattern(text, {}, matching, number)


def _modules(model: nn.Module, selector: Any) -> dict[str, nn.Module]:
    """The modules that a selector selects; the error says how a function would be written."""
    try:
        return select_modules(model, selector)
    except InputError as error:
        raise InputError(f"{error}{_hint(model, selector)}") from None


def _hint(model: nn.Module, selector: Any) -> str:
    """Say how a function would be written, if the selector names one, as `nn.LeakyReLU` does."""
    if not _function_bases(model):
        return ""
    if isinstance(selector, type):
        of_type = (name for name in NAMES if name.replace("_", "") == selector.__name__.lower())
        name = next(of_type, None)
        return f"; torch.nn.functional.{name} selects calls of the function" if name else ""
    pattern = str(selector)
    if pattern.rpartition(".")[2].strip("*") in NAMES:
        return f"; a call of a function in a forward is written {pattern + '()'!r}"
    return ""


def _function_bases(model: nn.Module) -> list[str]:
    """All calls of activation functions that the model could make, by their names."""
    owners = (name for name, module in model.named_modules() if calls_functions(name, module))
    return [
        f"{owner}.{function}()" if owner else f"{function}()"
        for owner in owners
        for function in (*NAMES, CLAMP)
    ]


def _function_name(selector: Any) -> str | None:
    """Return the name of an activation function, or None for a selector of modules."""
    if isinstance(selector, (type, nn.Module)) or not callable(selector):
        return None
    name = name_of_function(selector)
    if name is None and (getattr(selector, "__module__", None) or "torch").startswith("torch"):
        raise InputError(
            f"{getattr(selector, '__name__', selector)!r} is not an activation function that can "
            f"be found in a forward; these are {', '.join((*NAMES, CLAMP))}"
        )
    return name
