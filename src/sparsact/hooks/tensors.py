"""Facts about tensors: the first in a structure, its version, and shared parameters."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor, nn


def first_tensor(value: object) -> Tensor | None:
    """Return the first tensor in the inputs or outputs of a module, which may be nested."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    elif is_dataclass(value):
        value = tuple(getattr(value, field.name) for field in fields(value))
    if isinstance(value, (tuple, list)):
        tensors = (first_tensor(item) for item in value)
        return next((tensor for tensor in tensors if tensor is not None), None)
    return None


def outside_of_vmap(x: Tensor, dim: int) -> tuple[Tensor, int]:
    """Return a tensor with the dims over which ``torch.func.vmap`` runs in front, and its `dim`."""
    dim = dim % x.ndim - x.ndim if x.ndim else dim
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        mapped = torch._C._functorch.maybe_get_bdim(x)  # -1 for a tensor of torch.func.grad
        x = torch._C._functorch.get_unwrapped(x)
        x = x.movedim(mapped, 0) if mapped >= 0 else x
    return x, dim


def version_of(x: Tensor) -> int:
    """Return how often a tensor was changed in place; -1 in inference mode, without a count."""
    return -1 if x.is_inference() else x._version


def in_backward() -> bool:
    """Whether a backward pass is running, for example when a checkpoint recomputes a forward."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def is_made_into_a_program() -> bool:
    """Whether a forward runs on behalf of ``torch.export`` or ``torch.jit.trace``."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None


def shared_parameters(model: nn.Module) -> set[int]:
    """Return the ids of parameters used in several places, such as an embedding and a head."""
    places = Counter(
        id(parameter) for module in model.modules() for parameter in module._parameters.values()
    )
    return {parameter for parameter, count in places.items() if count > 1} - {id(None)}
