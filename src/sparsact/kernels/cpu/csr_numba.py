"""Products with compressed sparse rows.

Rows are split among threads by their work, which is the number of entries plus one, so that other
threads do not wait for a crowded row. The order of the sums in a row depends on that row alone: the
bits of the result do not depend on the number of threads.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part, summing_part
from sparsact.kernels.cpu.kernel_dtypes import narrow, wide
from sparsact.kernels.cpu.reused_memory import empty
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run
from sparsact.kernels.reference.csr_reference import check_bounds, check_shape


def csr_linear(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor | None
) -> Tensor:
    """Sum the indexed weight rows, times their values, for each row; and add the bias."""
    offsets, indices = _checked(values, offsets, indices, weight_t.shape[0])
    if bias is None:
        bias = weight_t.new_zeros(weight_t.shape[1])
    check_shape(bias, "bias", weight_t.shape[1:])
    return _product(values, offsets, indices, weight_t, bias)


def sddmm(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Compute the entries of ``left @ right.T`` at the places of the structure."""
    values = left.new_empty(indices.shape[0])
    offsets, indices = _checked(values, offsets, indices, right.shape[0])
    check_shape(left, "left", (offsets.shape[0] - 1, right.shape[1]))
    sample(left, right, offsets, indices, values)
    return values


def sample(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor, out: Tensor) -> None:
    """`sddmm` for a structure known to be sound; writes into `out`, in its dtype."""
    tensors = (left.contiguous(), right.contiguous(), offsets, indices, out)
    work = len(out) + len(left)
    run(_sample, _sample_rows, work, *[array(tensor) for tensor in tensors])


def csr_weight_grad(
    values: Tensor, offsets: Tensor, indices: Tensor, dense: Tensor, features: int
) -> Tensor:
    """Multiply the transposed sparse matrix by `dense`: sort by feature, then multiply."""
    offsets, indices = _checked(values, offsets, indices, features)
    check_shape(dense, "dense", (offsets.shape[0] - 1, dense.shape[1]))
    starts, rows = offsets.new_empty(features + 1), torch.empty_like(indices)
    sorted_values = values.new_empty(len(values))
    tensors = (values.contiguous(), offsets, indices, starts, rows, sorted_values)
    arrays: Any = [array(tensor) for tensor in tensors]
    _transpose(*arrays)
    return _product(sorted_values, starts, rows, dense, dense.new_zeros(dense.shape[1]))


def _checked(
    values: Tensor, offsets: Tensor, indices: Tensor, features: int
) -> tuple[Tensor, Tensor]:
    """Return offsets and indices as int64 and contiguous; raise unless they are sound."""
    offsets, indices = offsets.long().contiguous(), indices.long().contiguous()
    low, high, sound = _examine(array(offsets), array(indices))
    check_bounds(values, indices, features, int(low), int(high), bool(sound))
    return offsets, indices


def _product(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor
) -> Tensor:
    rows = len(offsets) - 1
    shape = (rows, weight_t.shape[1])
    out = empty(shape) if weight_t.dtype == torch.float32 else weight_t.new_empty(shape)
    operands = [tensor.contiguous() for tensor in (values, offsets, indices, weight_t, bias)]
    run(_sum, _sum_rows, len(values) + rows, *[array(tensor) for tensor in (*operands, out)])
    return out


@part
def _examine(offsets: Array, indices: Array) -> tuple[np.int64, np.int64, np.bool_]:
    low, high = np.int64(0), np.int64(-1)  # where there are no indices
    if len(indices):
        low, high = indices[0], indices[0]
    for index in indices:
        low, high = min(low, index), max(high, index)
    sound = offsets[0] == 0 and offsets[-1] == len(indices)
    for row in range(1, len(offsets)):
        sound &= offsets[row - 1] <= offsets[row]
    return low, high, sound


@part
def _row_at(work: int, offsets: Array) -> int:
    """Return the first row that starts at or after this amount of work."""
    low, high = 0, len(offsets) - 1
    while low < high:
        middle = (low + high) // 2
        if offsets[middle] + middle < work:
            low = middle + 1
        else:
            high = middle
    return low


@summing_part
def _add_one(total: Array, at: int, values: Array, indices: Array, weight_t: Array) -> None:
    value, row = wide(values[at]), weight_t[indices[at]]
    for column in range(len(total)):
        total[column] += value * wide(row[column])


@summing_part
def _add_four(total: Array, at: int, values: Array, indices: Array, weight_t: Array) -> None:
    value0, row0 = wide(values[at]), weight_t[indices[at]]
    value1, row1 = wide(values[at + 1]), weight_t[indices[at + 1]]
    value2, row2 = wide(values[at + 2]), weight_t[indices[at + 2]]
    value3, row3 = wide(values[at + 3]), weight_t[indices[at + 3]]
    for column in range(len(total)):
        total[column] += (
            value0 * wide(row0[column])
            + value1 * wide(row1[column])
            + value2 * wide(row2[column])
            + value3 * wide(row3[column])
        )


@summing_part
def _add_eight(total: Array, at: int, values: Array, indices: Array, weight_t: Array) -> None:
    value0, row0 = wide(values[at]), weight_t[indices[at]]
    value1, row1 = wide(values[at + 1]), weight_t[indices[at + 1]]
    value2, row2 = wide(values[at + 2]), weight_t[indices[at + 2]]
    value3, row3 = wide(values[at + 3]), weight_t[indices[at + 3]]
    value4, row4 = wide(values[at + 4]), weight_t[indices[at + 4]]
    value5, row5 = wide(values[at + 5]), weight_t[indices[at + 5]]
    value6, row6 = wide(values[at + 6]), weight_t[indices[at + 6]]
    value7, row7 = wide(values[at + 7]), weight_t[indices[at + 7]]
    for column in range(len(total)):
        total[column] += (
            value0 * wide(row0[column])
            + value1 * wide(row1[column])
            + value2 * wide(row2[column])
            + value3 * wide(row3[column])
            + value4 * wide(row4[column])
            + value5 * wide(row5[column])
            + value6 * wide(row6[column])
            + value7 * wide(row7[column])
        )


@summing_part
def _sum_rows(
    start: int,
    stop: int,
    values: Array,
    offsets: Array,
    indices: Array,
    weight_t: Array,
    bias: Array,
    out: Array,
) -> None:
    width = weight_t.shape[1]
    total = np.empty(width, np.float32)
    for row in range(_row_at(start, offsets), _row_at(stop, offsets)):
        for column in range(width):
            total[column] = wide(bias[column])
        place, last = offsets[row], offsets[row + 1]
        while place + 8 <= last:
            _add_eight(total, place, values, indices, weight_t)
            place += 8
        if place + 4 <= last:
            _add_four(total, place, values, indices, weight_t)
            place += 4
        while place < last:
            _add_one(total, place, values, indices, weight_t)
            place += 1
        for column in range(width):
            out[row, column] = narrow(total[column], out[row, column])


@driver
def _sum(
    chunks: int,
    work: int,
    values: Array,
    offsets: Array,
    indices: Array,
    weight_t: Array,
    bias: Array,
    out: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * work // chunks, (chunk + 1) * work // chunks
        _sum_rows(start, stop, values, offsets, indices, weight_t, bias, out)


@summing_part
def _sample_rows(
    start: int,
    stop: int,
    left: Array,
    right: Array,
    offsets: Array,
    indices: Array,
    values: Array,
) -> None:
    width = left.shape[1]
    zero = np.float32(0)
    for row in range(_row_at(start, offsets), _row_at(stop, offsets)):
        left_row = left[row]
        first, last = offsets[row], offsets[row + 1]
        blocks_end = last - (last - first) % 4
        for place in range(first, blocks_end, 4):
            row0, row1 = right[indices[place]], right[indices[place + 1]]
            row2, row3 = right[indices[place + 2]], right[indices[place + 3]]
            sum0, sum1, sum2, sum3 = zero, zero, zero, zero
            for column in range(width):
                factor = wide(left_row[column])
                sum0 += factor * wide(row0[column])
                sum1 += factor * wide(row1[column])
                sum2 += factor * wide(row2[column])
                sum3 += factor * wide(row3[column])
            like = values[place]
            values[place], values[place + 1] = narrow(sum0, like), narrow(sum1, like)
            values[place + 2], values[place + 3] = narrow(sum2, like), narrow(sum3, like)
        for place in range(blocks_end, last):
            row0, sum0 = right[indices[place]], zero
            for column in range(width):
                sum0 += wide(left_row[column]) * wide(row0[column])
            values[place] = narrow(sum0, values[place])


@driver
def _sample(
    chunks: int,
    work: int,
    left: Array,
    right: Array,
    offsets: Array,
    indices: Array,
    values: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * work // chunks, (chunk + 1) * work // chunks
        _sample_rows(start, stop, left, right, offsets, indices, values)


@part
def _transpose(
    values: Array,
    offsets: Array,
    indices: Array,
    starts: Array,
    rows: Array,
    sorted_values: Array,
) -> None:
    """Counting sort by column, stable: the rows of each column ascend."""
    starts[:] = 0
    for index in indices:
        starts[index + 1] += 1
    for feature in range(1, len(starts)):
        starts[feature] += starts[feature - 1]
    place = starts.copy()
    for row in range(len(offsets) - 1):
        for source in range(offsets[row], offsets[row + 1]):
            target = place[indices[source]]
            rows[target], sorted_values[target] = row, values[source]
            place[indices[source]] += 1
