"""Compression to CSR: entries are counted for each row, then written to their places."""

import torch
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.kernel_dtypes import wide
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run
from sparsact.kernels.reference.selection_reference import index_dtype


def threshold_compress(x: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, row offsets and column indices of the entries outside the band."""
    x = x.contiguous()
    rows = len(x)
    offsets = torch.zeros(rows + 1, dtype=index_dtype(x))
    run(_count, _count_rows, rows, array(x), array(threshold), array(offsets)[1:])
    torch.cumsum(offsets, 0, out=offsets)
    total = int(offsets[-1])
    columns, values = torch.empty(total, dtype=offsets.dtype), x.new_empty(total)
    arrays = [array(tensor) for tensor in (x, threshold, offsets, columns, values)]
    run(_write, _write_rows, rows, *arrays)
    return values, offsets, columns


@part
def _count_rows(start: int, stop: int, x: Array, level: Array, counts: Array) -> None:
    for row in range(start, stop):
        count = 0
        for column in range(x.shape[1]):
            count += not abs(wide(x[row, column])) <= level[column]
        counts[row] = count


@driver
def _count(chunks: int, rows: int, x: Array, level: Array, counts: Array) -> None:
    for chunk in prange(chunks):
        _count_rows(chunk * rows // chunks, (chunk + 1) * rows // chunks, x, level, counts)


@part
def _write_rows(
    start: int, stop: int, x: Array, level: Array, offsets: Array, columns: Array, out: Array
) -> None:
    for row in range(start, stop):
        place = offsets[row]
        for column in range(x.shape[1]):
            if not abs(wide(x[row, column])) <= level[column]:
                columns[place] = column
                out[place] = x[row, column]
                place += 1


@driver
def _write(
    chunks: int,
    rows: int,
    x: Array,
    level: Array,
    offsets: Array,
    columns: Array,
    out: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _write_rows(start, stop, x, level, offsets, columns, out)
