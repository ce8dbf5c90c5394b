"""Products with compressed sparse rows in plain torch."""

import torch
from torch import Tensor

from sparsact._common.errors import InputError


def csr_linear(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor | None
) -> Tensor:
    """Sum the indexed weight rows, times their values, for each row; and add the bias."""
    check_structure(values, offsets, indices, weight_t.shape[0])
    if bias is not None:
        check_shape(bias, "bias", weight_t.shape[1:])
    wide = summed_in(weight_t)
    products = values.to(wide)[:, None] * weight_t.to(wide)[indices]
    out = products.new_zeros(offsets.shape[0] - 1, weight_t.shape[1])
    if bias is not None:
        out += bias
    return out.index_add(0, rows_of(offsets), products).to(weight_t.dtype)


def sddmm(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Compute the entries of ``left @ right.T`` at the places of the structure."""
    check_structure(indices, offsets, indices, right.shape[0])
    check_shape(left, "left", (offsets.shape[0] - 1, right.shape[1]))
    wide = summed_in(left)
    products = left.to(wide)[rows_of(offsets)] * right.to(wide)[indices]
    return products.sum(1).to(left.dtype)


def csr_weight_grad(
    values: Tensor, offsets: Tensor, indices: Tensor, dense: Tensor, features: int
) -> Tensor:
    """Multiply the transposed sparse matrix by `dense`."""
    check_structure(values, offsets, indices, features)
    check_shape(dense, "dense", (offsets.shape[0] - 1, dense.shape[1]))
    wide = summed_in(dense)
    products = values.to(wide)[:, None] * dense.to(wide)[rows_of(offsets)]
    out = products.new_zeros(features, dense.shape[1])
    return out.index_add(0, indices, products).to(dense.dtype)


def rows_of(offsets: Tensor) -> Tensor:
    """Return the row of each entry."""
    rows = torch.arange(offsets.shape[0] - 1, device=offsets.device)
    return rows.repeat_interleave(offsets.diff())


def summed_in(tensor: Tensor) -> torch.dtype:
    """Return the dtype for sums over entries of `tensor`: at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def check_structure(values: Tensor, offsets: Tensor, indices: Tensor, features: int) -> None:
    """Raise unless offsets and indices describe rows over `features` columns."""
    low, high = (int(bound) for bound in indices.aminmax()) if indices.numel() else (0, -1)
    ends = int(offsets[0]), int(offsets[-1])
    sound = ends == (0, indices.shape[0]) and bool((offsets.diff() >= 0).all())
    check_bounds(values, indices, features, low, high, sound)


def check_shape(tensor: Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Raise unless `tensor` has the shape."""
    if tensor.shape != shape:
        raise InputError(f"{name} must be of shape {tuple(shape)}, got {tuple(tensor.shape)}")


def check_entries(values: Tensor, indices: Tensor) -> None:
    """Raise unless every value has an index."""
    if indices.shape != values.shape:
        raise InputError(f"got {values.shape[0]} values and {indices.shape[0]} indices")


def check_bounds(
    values: Tensor, indices: Tensor, features: int, low: int, high: int, sound: bool
) -> None:
    """Raise unless indices from `low` to `high` are in range and the offsets are sound."""
    check_entries(values, indices)
    if low < 0 or high >= features:
        raise IndexError(
            f"indices must lie in 0 … {features - 1}, the rows of the dense matrix; got indices "
            f"from {low} to {high}"
        )
    if not sound:
        raise InputError(
            f"row offsets must ascend from 0 to the number of entries, {indices.shape[0]}"
        )


def row_offsets(indices: Tensor) -> Tensor:
    """Return the row offsets of indices (rows, k)."""
    rows, k = indices.shape
    return torch.arange(rows + 1, device=indices.device) * k
