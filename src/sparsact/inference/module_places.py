"""Where modules stand in a model, and putting others in their places."""

from typing import Any

from torch import nn

Place = tuple[Any, str]  # a parent module and the name of the child

INITIALISED = "_is_hf_initialized"
"""The mark of modules and tensors that transformers does not initialise again."""


def module_places(model: nn.Module) -> dict[int, list[Place]]:
    """The places of each module by its id; a module that is used twice has two."""
    places: dict[int, list[Place]] = {}
    for parent in model.modules():
        for child, module in parent._modules.items():  # named_children omits second names
            places.setdefault(id(module), []).append((parent, child))
    return places


def put(new: nn.Module, places: list[Place]) -> None:
    """Put a module in all places of another."""
    setattr(new, INITIALISED, True)
    for parent, child in places:
        setattr(parent, child, new)
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # no fast path: it reads weights without the layers
