"""Exchanging modules of a model in place."""

from collections.abc import Callable
from typing import Any

from torch import nn

from sparsact.hooks.selection import Selector, describe, select_modules


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
