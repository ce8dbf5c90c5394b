"""Compression to CSR: entries are counted for each row, then written to their places."""

import torch
from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, function
from sparsact.kernels.cpu.threads import threads
from sparsact.kernels.reference.selection_reference import index_dtype

_INPUT = (INTEGER, INTEGER, INTEGER, ADDRESS, INTEGER, ADDRESS)
# threads, rows, columns, x, its dtype, λ
_count = function("compress_count", *_INPUT, *(ADDRESS, INTEGER))  # counts, bytes of an index
_write = function("compress_write", *_INPUT, *(ADDRESS, INTEGER, ADDRESS, ADDRESS))


def threshold_compress(x: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, row offsets and column indices of the entries outside the band."""
    x, threshold = x.contiguous(), threshold.float().contiguous()
    rows, width = x.shape
    offsets = torch.zeros(rows + 1, dtype=index_dtype(x))
    entries = (threads(rows), rows, width, x.data_ptr(), FLOATS[x.dtype], threshold.data_ptr())
    _count(*entries, offsets[1:].data_ptr(), offsets.itemsize)
    torch.cumsum(offsets, 0, out=offsets)
    total = int(offsets[-1])
    columns, values = torch.empty(total, dtype=offsets.dtype), x.new_empty(total)
    addresses = (columns.data_ptr(), values.data_ptr())
    _write(*entries, offsets.data_ptr(), offsets.itemsize, *addresses)
    return values, offsets, columns
