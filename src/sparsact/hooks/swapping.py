"""Replacing modules of a model in place."""

from collections.abc import Callable
from typing import Any

from torch import nn

from sparsact._common.errors import InputError
from sparsact.hooks.selection import Selector, describe, select_modules


def swap(
    model: nn.Module, selector: Selector, factory: Callable[[Any], nn.Module]
) -> dict[str, nn.Module]:
    """Replace the selected modules of `model` in place.

    Args:
        model: the model; it is changed.
        selector: selects the modules, as in :func:`select_modules`.
        factory: called with the old module; returns the new one, which takes over its training or
            eval mode. A module with several names is replaced once, under all names.

    Returns:
        name → new module.

    Raises:
        InputError: nothing matches, or the model itself matches (it has no parent module).
        TypeError: `factory` does not return a module.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> swap(model, nn.ReLU, lambda old: sa.nn.JumpReLU(0.1))
        {'1': JumpReLU(lambd=0.1)}
    """
    chosen = select_modules(model, selector)
    if "" in chosen:
        raise InputError(
            f"{describe(selector)} matches the model itself, which has no parent to hold its "
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
