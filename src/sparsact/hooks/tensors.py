"""Tensors that hooks meet: the first in a structure, its version, and sharing."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def first_tensor(value: object) -> Tensor | None:
    """The first tensor in what a module takes or returns: a tensor, tuple, dict or nesting."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    return None


def version_of(x: Tensor) -> int:
    """How often a tensor was changed in place; -1 where that is not counted, in inference mode."""
    return -1 if x.is_inference() else x._version


def in_backward() -> bool:
    """Whether a backward pass runs now, as when a checkpoint recomputes its forward."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def shared_parameters(model: nn.Module) -> set[int]:
    """The ids of parameters that stand in several places, as in an embedding and an output head."""
    places = Counter(
        id(parameter) for module in model.modules() for parameter in module._parameters.values()
    )
    return {parameter for parameter, count in places.items() if count > 1} - {id(None)}
