"""Convolutions, dense and grouped."""

import torch
from torch import Tensor

from sparsact.pruning.operation import Operation, Read, zero_where
from sparsact.pruning.pointwise_rules import COUPLED
from sparsact.pruning.units import uniform, varies
from sparsact.pruning.weight_reads import affine, couple, note


def convolution(operation: Operation) -> None:
    """A convolution; the units of a group of a grouped one go together."""
    x, weight, bias = (operation.get(name) for name in ("input", "weight", "bias"))
    name = operation.shadows.held(weight)
    operation.write()
    if name is None:
        operation.fix(operation.labels(x), "has a weight that is not a parameter")
        return
    whole = dict(operation.trace.model.named_parameters()).get(name)
    if whole is None or whole.shape != weight.shape or whole.stride() != weight.stride():
        operation.fix(operation.labels(x), "has a weight that is not a whole parameter")
        return
    channels = operation.labels(x).movedim(1, -1).flatten(0, -2)
    constants = uniform(operation.values(x).movedim(1, -1).flatten(0, -2), [0])[0]
    edges = bool(operation.get("transposed")) or any(p != 0 for p in operation.get("padding"))
    if weight.is_complex():
        operation.fix(operation.labels(x), "is complex")
        return
    side = _grouped if operation.get("groups") > 1 else _dense
    labels, values = side(
        operation, name, weight.detach().cpu().double(), channels, constants, edges
    )
    if bias is not None:
        operation.units.unite(labels, operation.labels(bias), operation.text)
        values = values + operation.values(bias)
    out = operation.outputs[0]
    shape = [1, -1] + [1] * (out.ndim - 2)
    operation.write(
        labels.reshape(shape).expand(out.shape), values.reshape(shape).expand(out.shape)
    )


def _dense(
    operation: Operation,
    name: str,
    weight: Tensor,
    channels: Tensor,
    constants: Tensor,
    edges: bool,
) -> tuple[Tensor, Tensor]:
    in_dim = 0 if operation.get("transposed") else 1
    columns = operation.units.slot(name, in_dim, weight.shape[in_dim])
    rows = operation.units.slot(name, 1 - in_dim, weight.shape[1 - in_dim])
    couple(operation, channels, columns)
    note(operation, name, 1 - in_dim, in_dim, Read(constants, edges, operation.place))
    if edges:
        constants = zero_where(constants.eq(0))
    matrix = (weight if in_dim == 1 else weight.transpose(0, 1)).flatten(2)
    values = affine(matrix.sum(2), matrix.ne(0).any(2), constants)
    return rows, values


def _grouped(
    operation: Operation,
    name: str,
    weight: Tensor,
    channels: Tensor,
    constants: Tensor,
    edges: bool,
) -> tuple[Tensor, Tensor]:
    groups, transposed = operation.get("groups"), operation.get("transposed")
    rows = operation.units.slot(name, 0, weight.shape[0]).reshape(groups, -1)
    inputs = channels.reshape(len(channels), groups, -1)
    if len(inputs) > 1 and not varies(inputs, 0):
        inputs = inputs[:1]
    text = f"{COUPLED} (the input of {operation.place}, a grouped convolution)"
    operation.units.unite(rows[:, :1].expand(rows.shape), rows, text)
    operation.units.unite(rows[:, :1].expand(inputs.shape), inputs, text)
    note(operation, name, 0, None, Read(constants, edges, operation.place), groups)
    if edges:
        constants = zero_where(constants.eq(0))
    by_group = weight.reshape(groups, -1, *weight.shape[1:]).flatten(3)
    if transposed:
        by_group = by_group.transpose(1, 2)
    values = torch.cat(
        [
            affine(matrix.sum(2), matrix.ne(0).any(2), given)
            for matrix, given in zip(by_group, constants.reshape(groups, -1), strict=True)
        ]
    )
    if transposed:
        return rows[:, :1].expand(groups, weight.shape[1]).reshape(-1), values
    return rows.reshape(-1), values
