"""Matrix products, by a parameter or of two activations, and embeddings."""

import torch
from torch import Tensor

from sparsact.pruning.operation import Operation, Read, Weight, zero_where
from sparsact.pruning.pointwise_rules import COUPLED, merged_labels
from sparsact.pruning.shadows import WeightView
from sparsact.pruning.units import NO_UNIT, uniform, varies
from sparsact.pruning.weight_reads import affine, couple, note


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
    couple(operation, operation.labels(x), columns)
    constants = uniform(operation.values(x), [0])[0]
    offset = view.start if out_dim == 1 else 0  # the part of the inputs that is used
    note(
        operation, view.name, out_dim, 1 - out_dim, Read(constants, False, operation.place, offset)
    )
    weight = matrix.detach().T.cpu()
    if weight.is_complex():  # only 0 is followed through complex numbers
        weight, constants = weight.abs(), zero_where(constants.eq(0))
    values = affine(weight.double(), weight.ne(0), constants)
    if out_dim == 1 and matrix.shape[0] < operation.trace.model.get_parameter(view.name).shape[0]:
        whole = operation.trace.model.get_parameter(view.name)
        values = zero_where(whole.eq(0).all(0).cpu())  # the part may depend on the input
    return rows.expand(x.shape[0], -1), values.expand(x.shape[0], -1)


def _slot(operation: Operation, view: WeightView, dim: int, size: int) -> Tensor:
    whole = dict(operation.trace.model.named_parameters())[view.name]
    labels: Tensor = operation.units.slot(view.name, dim, whole.shape[dim])
    if dim == 0 and size < whole.shape[0]:
        unused = torch.zeros(whole.shape[0], dtype=torch.bool)
        used = operation.trace.parts.setdefault(view.name, unused)
        used[view.start : view.start + size] = True
    return labels.narrow(0, view.start, size) if dim == 0 else labels


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
    values = uniform(weight.detach().cpu().double(), [0])[0]
    weights: dict[str, Weight] = operation.trace.weights
    weights.setdefault(name, Weight(name, 1, 0))
    operation.write(columns.expand(out.shape), values.expand(out.shape))
