"""The entries of a product that lie outside a band, found block by block.

torch multiplies a block of rows by the weight into one buffer. There, the entries of each row are
counted and then written out, before the next block overwrites the buffer.
"""

import torch
from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, INTEGER, function
from sparsact.kernels.cpu.threads import threads

_BUFFER = 2**22  # scores: 16 MB in float32
_ROWS = 64  # at least: fewer rows slow down the product

_SCORES = (INTEGER, INTEGER, INTEGER, ADDRESS)  # threads, rows, features, scores
_BAND = (ADDRESS, ADDRESS, ADDRESS)  # bias, lower, upper
_count = function("band_count", *_SCORES, *_BAND, ADDRESS)
_write = function("band_write", *_SCORES, *_BAND, *(ADDRESS, ADDRESS, ADDRESS))


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
    addresses = [tensor.data_ptr() for tensor in (scores, *band)]
    sizes = (threads(rows), rows, weight.shape[0])
    _count(*sizes, *addresses, offsets[1:].data_ptr())
    torch.cumsum(offsets, 0, out=offsets)
    total = int(offsets[-1] - offsets[0])
    values, columns = torch.empty(total), torch.empty(total, dtype=torch.int64)
    _write(*sizes, *addresses, offsets.data_ptr(), values.data_ptr(), columns.data_ptr())
    return values.to(block.dtype), columns
