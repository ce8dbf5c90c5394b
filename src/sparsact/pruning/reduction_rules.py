"""Operations along dims: reductions, softmax, pooling and interpolation."""

import torch
from torch import Tensor

from sparsact.pruning.operation import Operation, zero_where
from sparsact.pruning.units import uniform, varies


def reduce(operation: Operation) -> None:
    """One value for all entries along some dims."""
    x = operation.tensors[0]
    name, labels, values = operation.name, operation.labels(x), operation.values(x)
    dims = operation.dims("dim", x.ndim)
    out = operation.outputs[0]
    free = operation.units.free(labels)
    if any(varies(free, dim) for dim in dims):
        added = labels[values.ne(0)] if name == "sum" else labels  # a sum does not see zeros
        operation.fix(added, "combines units")
        for position in range(len(operation.outputs)):
            operation.write(output=position)
        return
    zero = values.eq(0).all() if not dims else _all(values.eq(0), dims)
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    if name in {"mean", "amax", "amin", "max", "min"}:
        values = uniform(values, dims)
    elif name in {"sum", "linalg_vector_norm", "norm", "nansum"}:
        values = zero_where(zero)
    else:
        values = torch.full(zero.shape, torch.nan, dtype=torch.float64)
    operation.write(labels.reshape(out.shape), values.reshape(out.shape))
    for position in range(1, len(operation.outputs)):
        operation.write(labels.reshape(out.shape), None, position)


def _all(mask: Tensor, dims: list[int]) -> Tensor:
    for dim in dims:
        mask = mask.all(dim, keepdim=True)
    return mask


def along(operation: Operation) -> None:
    """Operations along one dim that keep the shape."""
    x = operation.tensors[0]
    labels = operation.labels(x)
    if any(varies(operation.units.free(labels), d) for d in operation.dims("dim", x.ndim)):
        operation.fix(labels, "mixes its units")
    zero = operation.name == "cumsum"
    values = zero_where(_all(operation.values(x).eq(0), operation.dims("dim", x.ndim)))
    for position in range(len(operation.outputs)):
        operation.write(labels, values.expand(labels.shape) if zero else None, position)


def resample(operation: Operation) -> None:
    """Pooling and interpolation over the last dims, each channel for itself."""
    x = operation.tensors[0]
    count = next(k for k in (1, 2, 3) if f"{k}d" in operation.name)
    dims = list(range(x.ndim - count, x.ndim))
    labels, values = operation.labels(x), uniform(operation.values(x), dims)
    if any(varies(operation.units.free(labels), dim) for dim in dims):
        operation.fix(labels, "mixes its units")
    padding = operation.get("padding", 0)
    padded = any(padding) if isinstance(padding, (tuple, list)) else padding != 0
    if operation.name.startswith("avg_pool") and (
        padded or operation.get("ceil_mode", False) or operation.get("divisor_override") is not None
    ):
        values = zero_where(values.eq(0))
    for dim in dims:
        labels = labels.narrow(dim, 0, 1)
    for position, out in enumerate(operation.outputs):
        constant = None if position else values.expand(out.shape)
        operation.write(labels.expand(out.shape), constant, position)
