"""The inner loops of `gather_numba`: sums over the active rows of a slice of the weight.

Eight rows are read at a time, so that accumulators are loaded and stored once for eight rows and
the hardware prefetchers follow eight long streams. They cannot predict where the next eight rows
begin, so the first two cache lines of these are fetched explicitly: 8 to 11 % faster at 4096→4096,
int8, with a half to three quarters zeros. Fetching more lines gains nothing, and fetching inside
the loop prevents vectorisation.
"""

from sparsact.kernels.cpu.compiling import Array, part, summing_part
from sparsact.kernels.cpu.kernel_dtypes import wide
from sparsact.kernels.cpu.tensor_memory import fetch

SLICE = 8192  # accumulators of a slice for one row of x; four rows of x share them
QUARTER = SLICE // 4
LINE = 64  # bytes in a cache line


@summing_part
def _add_eight(acc: Array, weight: Array, stride: int, index: Array, value: Array) -> None:
    size = len(acc)
    w0 = weight[index[0] * stride :][:size]
    w1 = weight[index[1] * stride :][:size]
    w2 = weight[index[2] * stride :][:size]
    w3 = weight[index[3] * stride :][:size]
    w4 = weight[index[4] * stride :][:size]
    w5 = weight[index[5] * stride :][:size]
    w6 = weight[index[6] * stride :][:size]
    w7 = weight[index[7] * stride :][:size]
    v0, v1, v2, v3, v4, v5, v6, v7 = (
        value[0], value[1], value[2], value[3], value[4], value[5], value[6], value[7],
    )  # fmt: skip
    for c in range(size):
        low = v0 * wide(w0[c]) + v1 * wide(w1[c]) + v2 * wide(w2[c]) + v3 * wide(w3[c])
        high = v4 * wide(w4[c]) + v5 * wide(w5[c]) + v6 * wide(w6[c]) + v7 * wide(w7[c])
        acc[c] += low + high


@summing_part
def _add_one(acc: Array, weight: Array, value: float) -> None:
    for c in range(len(acc)):
        acc[c] += value * wide(weight[c])


@summing_part
def _add_four_to_four(
    acc: Array, weight: Array, stride: int, size: int, index: Array, value: Array
) -> None:
    """Add four rows of the weight, each read once, to the sums of four rows of x."""
    w0 = weight[index[0] * stride :][:size]
    w1 = weight[index[1] * stride :][:size]
    w2 = weight[index[2] * stride :][:size]
    w3 = weight[index[3] * stride :][:size]
    a0, a1, a2, a3 = value[0, 0], value[0, 1], value[0, 2], value[0, 3]
    b0, b1, b2, b3 = value[1, 0], value[1, 1], value[1, 2], value[1, 3]
    c0, c1, c2, c3 = value[2, 0], value[2, 1], value[2, 2], value[2, 3]
    d0, d1, d2, d3 = value[3, 0], value[3, 1], value[3, 2], value[3, 3]
    for c in range(size):
        u0, u1, u2, u3 = wide(w0[c]), wide(w1[c]), wide(w2[c]), wide(w3[c])
        acc[c] += a0 * u0 + a1 * u1 + a2 * u2 + a3 * u3
        acc[c + QUARTER] += b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
        acc[c + 2 * QUARTER] += c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3
        acc[c + 3 * QUARTER] += d0 * u0 + d1 * u1 + d2 * u2 + d3 * u3


@part
def sum_one_row(
    acc: Array, size: int, weight: Array, stride: int, count: int, index: Array, values: Array
) -> None:
    """Add the active rows of a weight to the sums of one row of x."""
    acc = acc[:size]
    line = LINE // weight.itemsize
    blocks_end = count - count % 8
    for k in range(0, blocks_end, 8):
        for ahead in range(k + 8, min(k + 16, count)):
            fetch(weight, index[ahead] * stride)
            fetch(weight, index[ahead] * stride + min(size - 1, line))
        _add_eight(acc, weight, stride, index[k : k + 8], values[0, k : k + 8])
    for k in range(blocks_end, count):
        _add_one(acc, weight[index[k] * stride :][:size], values[0, k])


@part
def sum_rows(
    acc: Array, size: int, weight: Array, stride: int, count: int, index: Array, values: Array
) -> None:
    """Add the active rows of a weight to the sums of several rows of x, four at a time."""
    blocks_end = count - count % 4
    for k in range(0, blocks_end, 4):
        for row in range(0, len(values), 4):
            sums = acc[row * QUARTER :]
            factors = values[row : row + 4, k : k + 4]
            _add_four_to_four(sums, weight, stride, size, index[k : k + 4], factors)
    for k in range(blocks_end, count):
        for row in range(len(values)):
            sums = acc[row * QUARTER :][:size]
            _add_one(sums, weight[index[k] * stride :][:size], values[row, k])
