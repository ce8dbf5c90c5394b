"""The activations that a user names or brings: names, classes, factories, places of classes."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from sparsact._common.errors import InputError, unknown
from sparsact.compare.settings.compared_activations import ACTIVATIONS, BY_NAME, Activation, Width

Factory = Callable[..., nn.Module]
Choice = str | Factory
"""A name, ``package.module:Class``, or a class or factory of modules."""


def chosen_activations(
    choices: str | Factory | Iterable[Choice] | Mapping[str, Factory],
) -> dict[str, Activation]:
    """Find the activations to compare; ReLU comes first, as the reference.

    Args:
        choices: ``all``, comma-separated names, or several choices; a mapping gives names to
            factories. A factory takes nothing, or a :class:`Width`.

    Returns:
        name → activation.

    Raises:
        InputError: a name is unknown, two have the same name, or a factory makes no module.
    """
    chosen = {"relu": ACTIVATIONS["relu"]}
    for name, activation in _pairs(choices):
        if chosen.setdefault(name, activation) != activation:
            raise InputError(
                f"activations= has two that are called {name!r}: pass a mapping that names them"
            )
    return chosen


def _pairs(choices: Any) -> Iterable[tuple[str, Activation]]:
    if isinstance(choices, str):
        names = list(ACTIVATIONS) if choices == "all" else choices.split(",")
        yield from ((name.strip(), _named(name.strip())) for name in names)
    elif isinstance(choices, Mapping):
        for name, factory in choices.items():
            yield str(name), _made_by(str(name), factory)
    elif callable(choices):
        name = _name_of(choices)
        yield name, _made_by(name, choices)
    elif isinstance(choices, Iterable):
        for choice in choices:
            yield from _pairs(choice)
    else:
        raise InputError(
            f"activations= takes names, classes and factories of modules, got {choices!r}"
        )


def _name_of(factory: Any) -> str:
    name = getattr(factory, "__name__", type(factory).__name__)
    if name == "<lambda>":
        raise InputError(
            "activations= has a lambda, which has no name: pass a mapping such as "
            "{'name': lambda: …}"
        )
    return str(name)


def _named(name: str) -> Activation:
    if ":" in name:
        return _made_by(name, _imported(name))
    if name not in BY_NAME:
        raise unknown("activation", name, BY_NAME)
    return BY_NAME[name]


def _imported(place: str) -> Factory:
    module, _, attribute = place.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"activations={place} cannot be imported: {error}") from error
    if not callable(factory):
        raise InputError(f"activations={place} is not a class or function that makes a module")
    made: Factory = factory
    return made


def _made_by(name: str, factory: Any) -> Activation:
    """The activation of a factory, after one trial."""
    if isinstance(factory, nn.Module) or not callable(factory):
        raise InputError(
            f"activations= needs a class or function that makes a module for {name!r}, got "
            f"{type(factory).__name__}"
        )
    build = _Own(name, factory)
    build(None, Width(8))
    return Activation("your own", build, zeros=True, entrywise=False)


class _Own:
    """Builds a user's activation; equal to another that does the same."""

    def __init__(self, name: str, factory: Factory) -> None:
        self.name = name
        self.factory = factory
        self.takes_width = _takes_width(factory)

    def __call__(self, level: float | None, width: Width) -> nn.Module:
        try:
            module = self.factory(width) if self.takes_width else self.factory()
        except Exception as error:
            raise InputError(
                f"the activation {self.name!r} of activations= cannot be built: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(module, nn.Module):
            raise InputError(
                f"the activation {self.name!r} of activations= must make a module, got "
                f"{type(module).__name__}"
            )
        return module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Own) and self.factory is other.factory

    def __hash__(self) -> int:
        return hash(self.factory)


def _takes_width(factory: Factory) -> bool:
    """Whether a factory has a positional argument without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a builtin without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)
