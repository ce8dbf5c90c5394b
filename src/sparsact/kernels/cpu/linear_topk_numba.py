"""The k largest entries of each row of a product that is made block by block.

torch multiplies a block of rows by a block of features into one buffer that stays in the cache.
Each row keeps a heap of its k largest entries so far. The smallest of them is a threshold, and
nearly all entries of the next block are below it; many are compared at a time.

A score and its feature are packed into one integer, the key. Its upper half holds the bits of the
float, mapped so that integers compare as floats do, with NaN greatest. Its lower half holds the
complement of the feature's index: of equal scores, the lower feature has the greater key.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.csr_numba import sample
from sparsact.kernels.cpu.kernel_dtypes import multiplies_bfloat16, narrow, wide
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run
from sparsact.kernels.reference.csr_reference import row_offsets

_BUFFER = 2**20  # scores: 4 MB in float32
_ROWS = 2048  # rows at once: enough for the product to run at full speed
_LANES = 32  # entries that are compared before a branch
_EMPTY = np.iinfo(np.int64).min  # less than every key
_LOWER = 0xFFFFFFFF
_SIGNLESS = 0x7FFFFFFF


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
    keys = torch.full((rows, k), int(_EMPTY), dtype=torch.int64)
    values, indices = x.new_empty(rows, k), torch.empty(rows, k, dtype=torch.int64)
    if values.numel() == 0:
        return values, indices
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    has_units = multiplies_bfloat16() if bfloat16_units is None else bfloat16_units
    dtype = torch.float32 if select_dtype is None or not has_units else select_dtype
    _select(keys, x.to(dtype), weight, bias, row_block, buffer_size)
    run(_unpack, _unpack_rows, rows, array(keys), array(values), array(indices))
    if dtype != torch.float32:
        _recompute(keys, values, indices, x, weight, bias)
    return values, indices


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
            part_of_bias = bias[feature : feature + width].contiguous()
            arrays = [array(tensor) for tensor in (scores, part_of_bias, keys[row : row + height])]
            run(_merge, _merge_rows, shape[0], *arrays, feature)


def _recompute(
    keys: Tensor, values: Tensor, indices: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> None:
    """Compute the exact scores of the selected entries, and order them."""
    offsets = row_offsets(indices)
    exact = torch.empty(indices.shape, dtype=torch.float32)
    sample(x, weight, offsets, indices.flatten(), exact.view(-1))
    exact += bias[indices]
    run(_pack, _pack_rows, len(keys), array(exact), array(indices), array(keys))
    run(_unpack, _unpack_rows, len(keys), array(keys), array(values), array(indices))


@part
def _key(score: np.float32, feature: int) -> np.int64:
    bits = np.int64(np.float32(score + np.float32(0)).view(np.int32))  # -0 + 0 is 0
    if score != score:
        bits = np.int64(_SIGNLESS)
    elif bits < 0:
        bits = bits ^ np.int64(_SIGNLESS)
    return (bits << 32) | np.int64(_LOWER - feature)


@part
def _score(key: np.int64) -> np.float32:
    bits = np.int64(key >> 32)
    if bits < 0:
        bits = bits ^ np.int64(_SIGNLESS)
    return np.int32(bits).view(np.float32)


@part
def _sift(heap: Array, size: int, key: np.int64) -> None:
    """Replace the least key of the heap by `key`."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key


@part
def _merge_rows(
    start: int, stop: int, scores: Array, bias: Array, keys: Array, feature: int
) -> None:
    size, width = keys.shape[1], scores.shape[1]
    for row in range(start, stop):
        heap = keys[row]
        threshold = _score(heap[0])  # NaN while a place is empty: then every entry passes
        for first in range(0, width, _LANES):
            last = min(first + _LANES, width)
            passed = 0
            for column in range(first, last):
                passed += not wide(scores[row, column]) + wide(bias[column]) <= threshold
            if passed == 0:
                continue
            for column in range(first, last):
                score = wide(scores[row, column]) + wide(bias[column])
                if not score <= threshold:
                    key = _key(score, feature + column)
                    if key > heap[0]:
                        _sift(heap, size, key)
                        threshold = _score(heap[0])


@driver
def _merge(chunks: int, rows: int, scores: Array, bias: Array, keys: Array, feature: int) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _merge_rows(start, stop, scores, bias, keys, feature)


@part
def _pack_rows(start: int, stop: int, scores: Array, indices: Array, keys: Array) -> None:
    size = keys.shape[1]
    for row in range(start, stop):
        keys[row] = _EMPTY
        for place in range(size):
            _sift(keys[row], size, _key(scores[row, place], indices[row, place]))


@driver
def _pack(chunks: int, rows: int, scores: Array, indices: Array, keys: Array) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _pack_rows(start, stop, scores, indices, keys)


@part
def _unpack_rows(start: int, stop: int, keys: Array, values: Array, indices: Array) -> None:
    """Empty each heap from its least key, so that the values descend."""
    size = keys.shape[1]
    for row in range(start, stop):
        heap = keys[row]
        for place in range(size - 1, -1, -1):
            key = heap[0]
            _sift(heap, place, heap[place])
            values[row, place] = narrow(_score(key), values[row, place])
            indices[row, place] = _LOWER - (key & _LOWER)


@driver
def _unpack(chunks: int, rows: int, keys: Array, values: Array, indices: Array) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * rows // chunks, (chunk + 1) * rows // chunks
        _unpack_rows(start, stop, keys, values, indices)
