"""The entries of a product that lie outside a band, found block by block.

torch multiplies a block of rows by the weight into one buffer. There, the entries of each row are
counted and then written out, before the next block overwrites the buffer.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.kernel_dtypes import narrow
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run

_BUFFER = 2**22  # scores: 16 MB in float32
_ROWS = 64  # at least: fewer rows slow down the product
_LANES = 32  # entries that are compared before a branch


def linear_threshold(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lower: Tensor,
    upper: Tensor,
    *,
    least_rows: int = _ROWS,
    buffer_size: int = _BUFFER,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, row offsets and features of ``x @ weight.T + bias`` outside a band.

    Args:
        x: (rows, in).
        weight: (features, in).
        bias: (features,), or None.
        lower: (features,), the lower ends of the bands.
        upper: (features,), the upper ends.
        least_rows: rows of a block, even if they need a larger buffer.
        buffer_size: scores of a block.
    """
    rows, features = x.shape[0], weight.shape[0]
    height = max(least_rows, buffer_size // max(features, 1))
    bias = weight.new_zeros(features) if bias is None else bias
    band = [tensor.float().contiguous() for tensor in (bias, lower, upper)]
    buffer = torch.empty(min(height, rows), features)
    offsets = torch.zeros(rows + 1, dtype=torch.int64)
    blocks = [
        _outside(buffer, x[row : row + height], weight, band, offsets[row : row + height + 1])
        for row in range(0, max(rows, 1), height)
    ]
    values, columns = (torch.cat(pieces) for pieces in zip(*blocks, strict=True))
    return values, offsets, columns


def _outside(
    buffer: Tensor, block: Tensor, weight: Tensor, band: list[Tensor], offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the entries of a block of rows; their offsets continue from ``offsets[0]``."""
    rows, scores = block.shape[0], buffer[: block.shape[0]]
    torch.mm(block.float(), weight.float().T, out=scores)
    arrays = [array(tensor) for tensor in (scores, *band, offsets)]
    run(_count, _count_rows, rows, *arrays)
    torch.cumsum(offsets, 0, out=offsets)
    total = int(offsets[-1] - offsets[0])
    values, columns = block.new_empty(total), torch.empty(total, dtype=torch.int64)
    run(_write, _write_rows, rows, *arrays, array(values), array(columns))
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
            any_outside = last - first < _LANES
            if not any_outside:
                for column in range(first, first + _LANES):  # a constant count is vectorised
                    score = line[column] + bias[column]
                    any_outside |= _is_outside(score, lower[column], upper[column])
            if not any_outside:
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
