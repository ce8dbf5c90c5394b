"""Norms."""

from typing import Any

import torch
from torch import Tensor

from sparsact.pruning.operation import Operation, nan_where_not
from sparsact.pruning.pointwise_rules import COUPLED
from sparsact.pruning.units import varies


def batch_norm(operation: Operation) -> None:
    """Batch norm: γ, β and the running statistics go with their channels."""
    x = operation.get("input")
    shape = [1, -1] + [1] * (x.ndim - 2)
    labels, values = operation.labels(x), operation.values(x)
    held = {n: operation.get(n) for n in ("weight", "bias", "running_mean", "running_var")}
    for tensor in held.values():
        if tensor is not None:
            other = operation.labels(tensor).reshape(shape).expand(labels.shape)
            operation.units.unite(labels, other, f"{COUPLED} ({operation.text})")
    scale, shift = (
        _channel_values(operation, held[n], shape, d) for n, d in (("weight", 1.0), ("bias", 0.0))
    )
    if operation.get("training", operation.get("train", False)):  # statistics of the batch
        values = torch.where(values.eq(0) | scale.eq(0), shift, torch.nan)
    else:
        mean, var = (
            held[n].detach().cpu().double().reshape(shape) for n in ("running_mean", "running_var")
        )
        normed = (values - mean) / (var + operation.get("eps")).sqrt() * scale + shift
        values = torch.where(scale.eq(0), shift, normed)
    operation.write(labels, values.expand(labels.shape))


def _channel_values(
    operation: Operation, tensor: Tensor | None, shape: list[int], default: float
) -> Tensor:
    if tensor is None:
        return torch.full((1,), default, dtype=torch.float64).reshape([1] * len(shape))
    return operation.values(tensor).reshape(shape)


def layer_norm(operation: Operation) -> None:
    """A norm over the last dims."""
    x = operation.get("input")
    labels = operation.labels(x)
    dims = range(x.ndim - len(operation.get("normalized_shape")), x.ndim)
    if any(varies(operation.units.free(labels), dim) for dim in dims):
        operation.fix(labels, "combines its units")
    values = _scaled_to_zero(operation, [1] * 0)
    operation.write(labels, None if values is None else values.expand(x.shape))


def group_norm(operation: Operation) -> None:
    """A norm over groups of channels."""
    x = operation.get("input")
    labels = operation.labels(x)
    operation.fix(labels, "combines its units")
    values = _scaled_to_zero(operation, [-1] + [1] * (x.ndim - 2))
    operation.write(labels, None if values is None else values.expand(x.shape))


def _scaled_to_zero(operation: Operation, shape: list[int]) -> Tensor | None:
    """β where γ is 0, and NaN elsewhere."""
    scale, shift = operation.get("weight"), operation.get("bias")
    if scale is None:
        return None
    zero = operation.values(scale).eq(0)
    shift_values: Any = torch.tensor(0.0) if shift is None else operation.values(shift)
    values = nan_where_not(zero, shift_values.expand(zero.shape))
    return values.reshape(shape) if shape else values
