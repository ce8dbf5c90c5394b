"""The entries of a product that lie outside a band, found as they are made.

torch multiplies a block of rows by the whole weight into one buffer; there each row's entries are
counted and then written out, before the next block takes their place.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels._cpu.dtypes import narrow
from sparsact.kernels._cpu.runtime import Array, array, driver, part, run

_BUFFER = 2**22  # scores: 16 MB in float32
_ROWS = 64  # at least, for the sake of the product
_LANES = 32  # entries that are compared before anything branches


def linear_threshold(
    x: Tensor, weight: Tensor, bias: Tensor | None, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, row offsets and features of what ``x @ weight.T + bias`` has outside the band."""
    rows, features = x.shape[0], weight.shape[0]
    height = max(_ROWS, _BUFFER // max(features, 1))
    bias = weight.new_zeros(features) if bias is None else bias
    band = [tensor.float().contiguous() for tensor in (bias, lower, upper)]
    buffer = torch.empty(min(height, rows), features)
    offsets = torch.zeros(rows + 1, dtype=torch.int64)
    found = [
        _outside(buffer, x[row : row + height], weight, band, offsets[row : row + height + 1])
        for row in range(0, max(rows, 1), height)
    ]
    values, columns = (torch.cat(pieces) for pieces in zip(*found, strict=True))
    return values, offsets, columns


def _outside(
    buffer: Tensor, block: Tensor, weight: Tensor, band: list[Tensor], offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """The entries of a block of rows; their offsets go on from the one that is there."""
    rows, scores = block.shape[0], buffer[: block.shape[0]]
    torch.mm(block.float(), weight.float().T, out=scores)
    given = [array(tensor) for tensor in (scores, *band, offsets)]
    run(_count, _count_rows, rows, *given)
    torch.cumsum(offsets, 0, out=offsets)
    total = int(offsets[-1] - offsets[0])
    values, columns = block.new_empty(total), torch.empty(total, dtype=torch.int64)
    run(_write, _write_rows, rows, *given, array(values), array(columns))
    return values, columns


@part
def _is_outside(score: np.float32, lower: np.float32, upper: np.float32) -> bool:
    return not (score >= lower and score <= upper)  # a NaN is outside


@part
def _count_rows(
    start: int, stop: int, scores: Array, bias: Array, lower: Array, upper: Array, counts: Array
) -> None:
    for row in range(start, stop):
        count: Any = 0
        for column in range(scores.shape[1]):
            score = scores[row, column] + bias[column]
            count += _is_outside(score, lower[column], upper[column])
        counts[row + 1] = count


@driver
def _count(
    chunks: int,
    rows: int,
    scores: Array,
    bias: Array,
    lower: Array,
    upper: Array,
    counts: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _count_rows(start, stop, scores, bias, lower, upper, counts)


@part
def _write_rows(
    start: int,
    stop: int,
    scores: Array,
    bias: Array,
    lower: Array,
    upper: Array,
    offsets: Array,
    values: Array,
    columns: Array,
) -> None:
    width = scores.shape[1]
    for row in range(start, stop):
        place, line = offsets[row] - offsets[0], scores[row]
        for first in range(0, width, _LANES):
            last = min(first + _LANES, width)
            found = last - first < _LANES
            if not found:
                for column in range(first, first + _LANES):  # a constant, for the vector units
                    score = line[column] + bias[column]
                    found |= _is_outside(score, lower[column], upper[column])
            if not found:
                continue
            for column in range(first, last):
                score = line[column] + bias[column]
                if _is_outside(score, lower[column], upper[column]):
                    columns[place] = column
                    values[place] = narrow(score, values[place])
                    place += 1


@driver
def _write(
    chunks: int,
    rows: int,
    scores: Array,
    bias: Array,
    lower: Array,
    upper: Array,
    offsets: Array,
    values: Array,
    columns: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _write_rows(start, stop, scores, bias, lower, upper, offsets, values, columns)
