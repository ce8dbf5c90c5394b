"""The k largest entries of each row of a product that is made block by block.

torch multiplies a block of rows by a block of features into one buffer that stays in the cache.
Each row keeps a heap of its k largest entries so far.
"""

import torch
from torch import Tensor

from sparsact.kernels.cpu.bfloat16_units import multiplies_bfloat16
from sparsact.kernels.cpu.csr import sample
from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, function
from sparsact.kernels.cpu.threads import threads
from sparsact.kernels.reference.csr_reference import row_offsets

_BUFFER = 2**20  # scores: 4 MB in float32
_ROWS = 2048  # rows at once: enough for the product to run at full speed
_EMPTY = -(2**63)  # less than every key

_merge = function(
    "topk_merge",
    *(INTEGER, INTEGER, ADDRESS, INTEGER, INTEGER),  # threads, rows, scores, their dtype, width
    *(ADDRESS, ADDRESS, INTEGER, INTEGER),  # bias, keys, k, the first feature
)
_pack = function("topk_pack", INTEGER, INTEGER, INTEGER, ADDRESS, ADDRESS, ADDRESS)
_unpack = function("topk_unpack", INTEGER, INTEGER, INTEGER, ADDRESS, ADDRESS, ADDRESS)


def linear_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    select_dtype: torch.dtype | None,
    *,
    row_block: int = _ROWS,
    buffer_size: int = _BUFFER,
    bfloat16_units: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Return values and features of the k largest entries of each row of ``x @ weight.T + bias``.

    Args:
        x: (rows, in).
        weight: (features, in).
        bias: (features,), or None.
        k: the number of entries in each row.
        select_dtype: bfloat16 selects by a product in bfloat16 where the CPU has units for it.
        row_block: rows of a product.
        buffer_size: scores of a product.
        bfloat16_units: whether the CPU multiplies in bfloat16; None finds out.
    """
    rows = x.shape[0]
    keys = torch.full((rows, k), _EMPTY, dtype=torch.int64)
    scores, indices = torch.empty(rows, k), torch.empty(rows, k, dtype=torch.int64)
    if scores.numel() == 0:
        return scores.to(x.dtype), indices
    bias = torch.zeros(len(weight)) if bias is None else bias.float().contiguous()
    has_units = multiplies_bfloat16() if bfloat16_units is None else bfloat16_units
    dtype = torch.float32 if select_dtype is None or not has_units else select_dtype
    _select(keys, x.to(dtype), weight, bias, row_block, buffer_size)
    _take_out(keys, scores, indices)
    if dtype != torch.float32:
        _recompute(keys, scores, indices, x, weight, bias)
    return scores.to(x.dtype), indices


def _take_out(keys: Tensor, scores: Tensor, indices: Tensor) -> None:
    rows, k = keys.shape
    _unpack(threads(rows), rows, k, keys.data_ptr(), scores.data_ptr(), indices.data_ptr())


def _select(
    keys: Tensor, x: Tensor, weight: Tensor, bias: Tensor, row_block: int, buffer_size: int
) -> None:
    """Fill the heaps from products in the dtype of `x`."""
    height = min(x.shape[0], row_block)
    width = min(weight.shape[0], max(1, buffer_size // height))
    buffer = x.new_empty(height * width)
    for row in range(0, x.shape[0], height):
        block = x[row : row + height]
        for feature in range(0, weight.shape[0], width):
            part_of_weight = weight[feature : feature + width].to(x.dtype)
            shape = block.shape[0], part_of_weight.shape[0]
            scores = buffer[: shape[0] * shape[1]].view(shape)
            torch.mm(block, part_of_weight.T, out=scores)
            _merge(
                threads(shape[0]),
                *(shape[0], scores.data_ptr(), FLOATS[scores.dtype], shape[1]),
                *(bias[feature:].data_ptr(), keys[row:].data_ptr(), keys.shape[1], feature),
            )


def _recompute(
    keys: Tensor, scores: Tensor, indices: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> None:
    """Compute the exact scores of the selected entries, and order them."""
    rows, k = keys.shape
    exact = sample(x, weight, row_offsets(indices), indices.flatten()) + bias[indices].flatten()
    _pack(threads(rows), rows, k, exact.data_ptr(), indices.data_ptr(), keys.data_ptr())
    _take_out(keys, scores, indices)
