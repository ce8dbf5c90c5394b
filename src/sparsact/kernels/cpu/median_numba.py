"""The median of the entries above a floor, by counting.

The bits of positive floats ascend with their values. A first pass counts the upper halves, a second
the lower halves of the entries with the median's upper half. Nothing is moved or sorted.
"""

import numpy as np
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run

_UPPER = 2**15  # upper halves of positive floats
_LOWER = 2**16


def median_above(x: Tensor, floor: Tensor) -> Tensor:
    """Return the median of each row's ``|x|`` above `floor`; NaN if there is no entry."""
    out = x.new_empty(x.shape[0])
    tensors = (x.contiguous(), floor.contiguous(), out)
    run(_median, _median_rows, x.shape[0], *[array(tensor) for tensor in tensors])
    return out


@part
def _bits(value: np.float32) -> np.int64:
    return np.int64(np.float32(abs(value)).view(np.int32))


@part
def _find(counts: Array, rank: int) -> tuple[int, int]:
    """Return the bin of the entry with this rank, and its rank inside the bin."""
    place = 0
    while rank >= counts[place]:
        rank -= counts[place]
        place += 1
    return place, rank


@part
def _ranked(row: Array, floor: np.float32, upper: Array, lower: Array, rank: int) -> np.float32:
    """Return the entry with this rank, from 0, among those above the floor."""
    half, rest = _find(upper, rank)
    lower[:] = 0
    for value in row:
        bits = _bits(value)
        if bits >> 16 == half and abs(value) > floor:
            lower[bits & (_LOWER - 1)] += 1
    last, _ = _find(lower, rest)
    return np.int32((half << 16) | last).view(np.float32)


@part
def _median_rows(start: int, stop: int, x: Array, floor: Array, out: Array) -> None:
    upper, lower = np.empty(_UPPER, np.int32), np.empty(_LOWER, np.int32)
    for index in range(start, stop):
        row, least = x[index], floor[index]
        upper[:] = 0
        count = 0
        for value in row:
            if abs(value) > least:  # NaN is not
                upper[_bits(value) >> 16] += 1
                count += 1
        if count == 0:
            out[index] = np.nan
            continue
        middle = _ranked(row, least, upper, lower, (count - 1) // 2)
        if count % 2 == 0:
            above = _ranked(row, least, upper, lower, count // 2)
            middle = (middle + above) / np.float32(2)
        out[index] = middle


@driver
def _median(chunks: int, rows: int, x: Array, floor: Array, out: Array) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _median_rows(start, stop, x, floor, out)
