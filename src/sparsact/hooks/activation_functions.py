"""The activation functions of torch, under every name by which a forward can call them."""

import inspect
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import get_overridable_functions

NAMES = (
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
)
"""The names of the activation functions; ``relu_`` and ``Tensor.relu`` are called ``relu`` too."""

CLAMP = "clamp"
"""The name of ``x.clamp(min=0)``, a relu in other words; other clamps are no activation."""


def _spellings(name: str) -> list[Any]:
    places = (functional, torch, Tensor, torch.special)
    names = ("sigmoid", "expit") if name == "sigmoid" else (name,)
    return [
        getattr(place, spelling)
        for place in places
        for spelling in (*names, *(f"{name}_" for name in names))
        if hasattr(place, spelling)
    ]


# dicts instead of sets: torch.compile of torch 2.8 cannot look a function up in a set
_CLAMPS = {
    getattr(place, name): CLAMP
    for place in (torch, Tensor)
    for name in ("clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_")
}
_NAME_OF = {function: name for name in NAMES for function in _spellings(name)} | _CLAMPS


def name_of_function(function: object) -> str | None:
    """Return the name of an activation function, such as ``relu`` for ``Tensor.relu_``, or None."""
    try:
        return _NAME_OF.get(function)
    except TypeError:  # not hashable
        return None


def name_of_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the name of the activation that a call computes, or None if it computes none."""
    name = name_of_function(function)
    if name != CLAMP:
        return name
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    return CLAMP if high is None and type(low) in (int, float) and low == 0 else None


def changes_its_input(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
    """Whether a call writes its result into its input, as ``relu_`` or ``inplace=True`` do."""
    if function in _IN_PLACE:
        return True
    position = _INPLACE_ARGUMENT.get(function)
    if position is None:
        return False
    return bool(args[position] if position < len(args) else kwargs.get("inplace", False))


def is_seen_when_compiled(function: Callable[..., Any]) -> bool:
    """Whether ``torch.compile`` shows a call to a mode; not so ``torch.relu_`` and its like."""
    return function in _OVERRIDABLE


_OVERRIDABLE = dict.fromkeys(chain.from_iterable(get_overridable_functions().values()))
_IN_PLACE = dict.fromkeys(function for function in _NAME_OF if function.__name__.endswith("_"))
_INPLACE_ARGUMENT: dict[Any, int] = {
    function: names.index("inplace")
    for function in _NAME_OF
    if inspect.isfunction(function)
    for names in [list(inspect.signature(function).parameters)]
    if "inplace" in names
}
