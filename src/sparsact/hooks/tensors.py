"""Facts about tensors: the first in a structure, its version, and shared parameters."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def first_tensor(value: object) -> Tensor | None:
    """Return the first tensor in the inputs or outputs of a module, which may be nested."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        tensors = (first_tensor(item) for item in value)
        return next((tensor for tensor in tensors if tensor is not None), None)
    return None


def version_of(x: Tensor) -> int:
    """Return how often a tensor was changed in place; -1 in inference mode, without a count."""
    return -1 if x.is_inference() else x._version


def in_backward() -> bool:
    """Whether a backward pass is running, for example when a checkpoint recomputes a forward."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def shared_parameters(model: nn.Module) -> set[int]:
    """Return the ids of parameters used in several places, such as an embedding and a head."""
    places = Counter(
        id(parameter) for module in model.modules() for parameter in module._parameters.values()
    )
    return {parameter for parameter, count in places.items() if count > 1} - {id(None)}
