"""The layers: matrix products, convolutions, norms and embeddings."""

from typing import Any

import torch
from torch import Tensor

from sparsact.pruning.operation import Operation, Read, Weight, nan_where_not, zero_where
from sparsact.pruning.pointwise_rules import COUPLED, merged_labels
from sparsact.pruning.shadows import WeightView
from sparsact.pruning.units import NO_UNIT, uniform, varies


def matmul(operation: Operation) -> None:
    """A matrix product, by a parameter or of two activations."""
    out = operation.outputs[0]
    labels, values = _product(operation, *operation.tensors[:2])
    operation.write(labels.reshape(out.shape), values.reshape(out.shape))


def addmm(operation: Operation) -> None:
    """A matrix product and a bias."""
    bias, left, right = (operation.get(name) for name in ("self", "mat1", "mat2"))
    _add_bias(operation, bias, *_product(operation, left, right))


def baddbmm(operation: Operation) -> None:
    """Matrix products and an addend."""
    addend, left, right = (operation.get(name) for name in ("self", "batch1", "batch2"))
    _add_bias(operation, addend, *_product(operation, left, right))


def _add_bias(operation: Operation, bias: Tensor, labels: Tensor, values: Tensor) -> None:
    """Write the product, then the sum: the rule of a sum needs the labels of the product."""
    out = operation.outputs[0]
    labels, values = labels.reshape(out.shape), values.reshape(out.shape)
    operation.write(labels, values)
    if operation.get("beta", 1) != 0:
        labels = merged_labels(operation, [out, bias], out.shape).clone()
        total = values + operation.values(bias)
        if operation.get("alpha", 1) != 1 or operation.get("beta", 1) != 1:
            total = zero_where(total.eq(0) & values.eq(0))
        operation.write(labels, total)


def _product(operation: Operation, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    if left.ndim == 2 or left.shape[0] == 1:
        matrix = right[0] if right.ndim == 3 else right
        view = operation.shadows.weight_view(matrix)
        if view is not None:
            return _by_weight(operation, left.reshape(-1, left.shape[-1]), matrix, view)
    return _of_activations(operation, left, right)


def _by_weight(
    operation: Operation, x: Tensor, matrix: Tensor, view: WeightView
) -> tuple[Tensor, Tensor]:
    """``x @ matrix``, with a parameter as the matrix."""
    out_dim = 0 if view.transposed else 1
    columns, rows = (
        _slot(operation, view, dim, matrix.shape[side])
        for side, dim in ((0, 1 - out_dim), (1, out_dim))
    )
    _couple(operation, operation.labels(x), columns)
    constants = uniform(operation.values(x), [0])[0]
    offset = view.start if out_dim == 1 else 0  # the part of the inputs that is used
    _note(
        operation, view.name, out_dim, 1 - out_dim, Read(constants, False, operation.place, offset)
    )
    weight = matrix.detach().T.double()
    values = _affine(weight, weight.ne(0), constants)
    return rows.expand(x.shape[0], -1), values.expand(x.shape[0], -1)


def _slot(operation: Operation, view: WeightView, dim: int, size: int) -> Tensor:
    whole = dict(operation.trace.model.named_parameters())[view.name]
    labels: Tensor = operation.units.slot(view.name, dim, whole.shape[dim])
    return labels.narrow(0, view.start, size) if dim == 0 else labels


def _couple(operation: Operation, labels: Tensor, columns: Tensor) -> None:
    """Couple the inputs, (positions, columns), with the columns of a weight."""
    if labels.shape[0] > 1 and not varies(labels, 0):
        labels = labels[:1]
    operation.units.unite(
        columns.expand(labels.shape), labels, f"{COUPLED} (the input of {operation.place})"
    )


def _note(
    operation: Operation, name: str, out_dim: int, in_dim: int | None, read: Read, groups: int = 1
) -> None:
    weights: dict[str, Weight] = operation.trace.weights
    weight = weights.setdefault(name, Weight(name, out_dim, in_dim, groups))
    if (weight.out_dim, weight.in_dim, weight.groups) != (out_dim, in_dim, groups):
        for (slot, _), labels in list(operation.units.slots.items()):
            if slot == name:
                operation.fix(labels, f"uses {name} in another way than another layer")
    weight.reads.append(read)


def _affine(weight: Tensor, used: Tensor, constants: Tensor) -> Tensor:
    """``weight @ constants`` where each constant that is used is known, otherwise NaN."""
    known = ~(used & constants.isnan()).any(1)
    return nan_where_not(known, weight.cpu() @ constants.nan_to_num())


def _of_activations(operation: Operation, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    units = operation.units
    if left.ndim == 2:
        left, right = left[None], right[None]
    a, b = operation.labels(left), operation.labels(right)
    used = operation.values(left).ne(0).double() @ operation.values(right).ne(0).double()
    values = zero_where(used.eq(0))
    free_a, free_b = units.free(a), units.free(b)
    shape = values.shape
    nothing = torch.full((1, 1, 1), NO_UNIT).expand(shape)
    if varies(free_a, 2) or varies(free_b, 1):
        classes = _contract(operation, a, b)
        if not varies(units.roots(classes), 0):
            operation.fix(classes, "sums over its units")
        return classes.expand(shape), values
    if not (free_a.any() or free_b.any()):
        return nothing, values
    rows, columns = a[:, :, :1].expand(shape), b[:, :1].expand(shape)
    if not free_b.any() and not (varies(free_a, 0) and right.shape[0] > 1):
        return rows, values
    if not free_a.any() and not (varies(free_b, 0) and left.shape[0] > 1):
        return columns, values
    if varies(free_a, 1) and varies(free_b, 2):
        for labels in (a, b):
            operation.fix(labels, "combines all pairs of its units")
        return nothing, values
    units.unite(rows, columns, f"{COUPLED} ({operation.text})")
    return (columns if varies(free_b, 2) else rows), values


def _contract(operation: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Couple all units that one product sums over; return one of them for each product."""
    first = a[:, :1, :1] if operation.units.free(a).any() else b[:, :1, :1]
    for labels in (a, b):
        operation.units.unite(first.expand(labels.shape), labels, f"{COUPLED} ({operation.text})")
    return first


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
    side = _grouped if operation.get("groups") > 1 else _dense
    labels, values = side(
        operation, name, weight.detach().double().cpu(), channels, constants, edges
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
    _couple(operation, channels, columns)
    _note(operation, name, 1 - in_dim, in_dim, Read(constants, edges, operation.place))
    if edges:
        constants = zero_where(constants.eq(0))
    matrix = weight.transpose(0, in_dim).flatten(2) if in_dim == 0 else weight.flatten(2)
    values = _affine(matrix.sum(2), matrix.ne(0).any(2), constants)
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
    _note(operation, name, 0, None, Read(constants, edges, operation.place), groups)
    if edges:
        constants = zero_where(constants.eq(0))
    by_group = weight.reshape(groups, -1, *weight.shape[1:]).flatten(3)
    if transposed:
        by_group = by_group.transpose(1, 2)
    values = torch.cat(
        [
            _affine(matrix.sum(2), matrix.ne(0).any(2), given)
            for matrix, given in zip(by_group, constants.reshape(groups, -1), strict=True)
        ]
    )
    if transposed:
        return rows[:, :1].expand(groups, weight.shape[1]).reshape(-1), values
    return rows.reshape(-1), values


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
            held[n].detach().double().cpu().reshape(shape) for n in ("running_mean", "running_var")
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


def embedding(operation: Operation) -> None:
    """Rows of a table, chosen by the input."""
    weight = operation.get("weight")
    out = operation.outputs[0]
    name = operation.shadows.held(weight)
    if name is None:
        operation.write()
        return
    columns = operation.units.slot(name, 1, weight.shape[1])
    rows = operation.units.slot(name, 0, weight.shape[0])
    operation.fix(rows, "chooses among its rows")
    values = uniform(weight.detach().double().cpu(), [0])[0]
    weights: dict[str, Weight] = operation.trace.weights
    weights.setdefault(name, Weight(name, 1, 0))
    operation.write(columns.expand(out.shape), values.expand(out.shape))
