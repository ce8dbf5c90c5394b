"""Operations that treat each entry separately."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsact.pruning.operation import Operation, nan_where_not, zero_where
from sparsact.pruning.units import NO_UNIT, varies

COUPLED = "it is coupled with something that cannot be made smaller"
_FIXED_NUMBERS = {
    "celu",
    "elu",
    "hardshrink",
    "hardtanh",
    "leaky_relu",
    "softplus",
    "softshrink",
    "threshold",
}
"""Activations, whose numbers are settings."""
_ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "true_divide", "multiply", "divide"}


def pointwise(operation: Operation) -> None:
    """Any operation on entries: couples the units of its operands."""
    out = operation.outputs[0]
    labels = merged_labels(operation, operation.tensors, out.shape)
    values = _values_of(operation, operation.name.rstrip("_"))
    operation.write(labels, None if values is None else values.expand(out.shape))
    for index in range(1, len(operation.outputs)):
        operation.write(labels, None, index)


def _values_of(operation: Operation, name: str) -> Tensor | None:
    if len(operation.tensors) == 1:
        return _of_one(operation, name)
    if name in {"mul", "multiply"}:
        return _product(*(operation.values(t) for t in operation.tensors))
    if name in {"div", "true_divide", "divide"}:
        return _quotient(operation)
    if name in {"add", "sub"}:
        return _sum(operation, name)
    if name == "where":
        left, right = (_values(operation, operation.get(n)) for n in ("self", "other"))
        return nan_where_not(left == right, left)
    if name == "masked_fill":
        x, value = operation.values(operation.get("self")), operation.get("value")
        return zero_where(x.eq(0) & _values(operation, value).eq(0))
    return _of_several(operation)


def merged_labels(operation: Operation, tensors: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Couple the units of tensors that are combined entry by entry, and return the labels.

    A tensor without units that has size 1 in every dim along which units differ sets no size.
    """
    units = operation.units
    labels = [operation.labels(tensor) for tensor in tensors]
    free = [units.free(each) for each in labels]
    differ = {
        dim - each.ndim
        for each in free
        for dim in range(each.ndim)
        if each.any() and varies(each, dim)
    }
    taking_part = [
        index
        for index, each in enumerate(free)
        if each.any() or any(-d <= each.ndim and each.shape[d] > 1 for d in differ)
    ]
    if not any(bool(free[index].any()) for index in taking_part):
        whole = [each for each in labels if each.shape == torch.Size(shape) and each.any()]
        return whole[0] if whole else torch.zeros((), dtype=torch.long).expand(shape)
    taking_part.sort(key=lambda index: not bool(free[index].any()))
    first, *others = [labels[index].expand(shape) for index in taking_part]
    for other in others:
        units.unite(first, other, f"{COUPLED} ({operation.text})")
    return first


def _values(operation: Operation, operand: object) -> Tensor:
    if isinstance(operand, Tensor):
        return operation.values(operand)
    zero = isinstance(operand, (int, float)) and operand == 0
    return torch.tensor(0.0 if zero else torch.nan, dtype=torch.float64)


def _of_one(operation: Operation, name: str) -> Tensor | None:
    values = operation.values(operation.tensors[0])
    if values.isnan().all():
        return None
    if name in {"fill", "masked_fill"}:
        return None
    if name in _ARITHMETIC:
        scale = name in {"mul", "multiply"} or (
            name in {"div", "true_divide", "divide"} and isinstance(operation.get("self"), Tensor)
        )
        return zero_where(values.eq(0)) if scale else None
    return _computed(operation, ~values.isnan())


def _of_several(operation: Operation) -> Tensor | None:
    known = torch.ones((), dtype=torch.bool)
    for tensor in operation.tensors:
        known = known & ~operation.values(tensor).isnan()
    return _computed(operation, known) if known.any() else None


def _computed(operation: Operation, known: Tensor) -> Tensor | None:
    if not all(t.is_floating_point() for t in (*operation.tensors, operation.outputs[0])):
        return None
    if torch.Tag.nondeterministic_seeded in operation.func.tags:
        return None
    values = operation.on("values")
    if any(operation.numbers) and operation.name.rstrip("_") not in _FIXED_NUMBERS:
        # a number in Python may depend on the shape, as in a mean by hand: only 0 is safe
        zeros = torch.stack(
            [operation.values(t).eq(0).expand(values.shape) for t in operation.tensors]
        )
        known = zeros.all(0) & values.eq(0)
    return nan_where_not(known, values)


def _product(left: Tensor, right: Tensor) -> Tensor:
    product = left * right
    return torch.where(left.eq(0) | right.eq(0), 0.0, product)


def _quotient(operation: Operation) -> Tensor:
    above, below = operation.tensors[:2]
    top, bottom = operation.values(above), operation.values(below)
    # 0/0 is not 0: a divisor that belongs to units may be 0 where they are
    safe = not operation.labels(below).ne(NO_UNIT).any()
    quotient = nan_where_not(bottom.ne(0), top / bottom)
    return torch.where(top.eq(0) & safe, 0.0, quotient)


def _sum(operation: Operation, name: str) -> Tensor:
    left, right = (operation.values(t) for t in operation.tensors[:2])
    if operation.get("alpha", 1) != 1:
        return zero_where(left.eq(0) & right.eq(0))
    return left + right if name == "add" else left - right
