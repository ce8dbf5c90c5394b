"""Linear layers that skip inactive inputs.

The active inputs are compacted once. Then threads split the outputs: each reads its slice of every
active row of the weight, eight rows at a time, so that accumulators are loaded and stored once for
eight rows and the prefetchers see eight long streams; where the next eight begin they cannot know,
and are told (8 to 11% faster at 4096→4096, int8, half to three quarters zeros; the rows' first two
lines do, more gain nothing, and fetching inside the loop keeps it from being vectorised). A slice
is as long as its accumulators fit into the first cache: a row of the weight is one run of memory,
and long runs are read fastest.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels._cpu.dtypes import narrow, wide
from sparsact.kernels._cpu.memory import LIKE, at, fetch
from sparsact.kernels._cpu.runtime import (
    Array,
    driver,
    multiplies_bfloat16,
    part,
    run,
    summing_part,
)
from sparsact.kernels._reference.gather import check, keep_active

ROWS_AT_MOST = 64  # rows of x beyond which dense is faster; `benchmarks/gather_linear.py rows`
_SLICE = 8192  # accumulators of a slice for one row of x; four rows share them
_QUARTER = _SLICE // 4
_LINE = 64  # bytes in a line of the cache; threads meet at multiples of so many outputs
_WORTH_THREADS = 1 << 16  # weights below which a second thread costs more than it brings
_DENSE_BLOCK = 1 << 22  # weights that are widened at a time: they stay in the last cache


def gather_linear(
    x: Tensor,
    weights_t: list[Tensor],
    threshold: Tensor,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """One output for each weight; dense beyond `ROWS_AT_MOST` or `inputs_at_most`."""
    check(x, weights_t, threshold, biases, scales)
    return Product(weights_t, threshold, biases, scales)(x, inputs_at_most)


class Product:
    """`gather_linear` of arguments that are known to fit, prepared for many `x`.

    Memory is read by address: the tensors' contents may change, their memory is kept alive.
    """

    def __init__(
        self,
        weights_t: Sequence[Tensor],
        threshold: Tensor,
        biases: Sequence[Tensor | None],
        scales: Sequence[Tensor | None],
    ) -> None:
        self._weights_t = [weight_t.detach() for weight_t in weights_t]
        self._level, self._per_input = _plain(threshold), threshold.ndim
        self._biases = [None if bias is None else _plain(bias) for bias in biases]
        self._scales = [None if scale is None else _plain(scale) for scale in scales]
        self._widths = [weight_t.shape[1] for weight_t in weights_t]
        inputs, total = len(weights_t[0]), sum(self._widths)
        self._line = _LINE if inputs * total >= _WORTH_THREADS else max(1, total)
        self._lines = -(-total // self._line)
        self._like = LIKE[weights_t[0].dtype]
        # of each weight: the addresses of what is read and, filled in by each call, of its output
        self._sources = np.array(
            [
                (w.data_ptr(), _address(b), _address(s), 0, w.shape[1])
                for w, b, s in zip(self._weights_t, self._biases, self._scales, strict=True)
            ],
            dtype=np.int64,
        )

    def __call__(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        *shape, inputs = x.shape
        rows = math.prod(shape)
        if rows > ROWS_AT_MOST:
            return self._dense(x)
        x = x.contiguous()
        outputs = [x.new_empty(*shape, width) for width in self._widths]
        sources = self._sources.copy()
        sources[:, 3] = [y.data_ptr() for y in outputs]
        enough = run(
            _gather,
            _gather_alone,
            self._lines,
            self._line,
            sources,
            x.data_ptr(),
            rows,
            inputs,
            self._level.data_ptr(),
            self._per_input,
            inputs_at_most,
            LIKE[x.dtype],
            self._like,
        )
        return outputs if enough else self._dense(x)

    def _dense(self, x: Tensor) -> list[Tensor]:
        kept = keep_active(x, self._level).reshape(x.shape[:-1].numel(), x.shape[-1])
        outputs = []
        for weight_t, bias, scale in zip(self._weights_t, self._biases, self._scales, strict=True):
            y = kept @ weight_t if _torch_is_fast(kept, weight_t) else _widened(kept, weight_t)
            y = y if scale is None else y * scale
            y = y if bias is None else y + bias
            outputs.append(y.to(x.dtype).view(*x.shape[:-1], weight_t.shape[1]))
        return outputs


def _plain(vector: Tensor) -> Tensor:
    return vector.detach().float().contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _torch_is_fast(x: Tensor, weight_t: Tensor) -> bool:
    """Without bfloat16 units torch multiplies by such a weight 100 times slower than in float32."""
    if weight_t.dtype == torch.bfloat16 and not multiplies_bfloat16():
        return False
    return x.dtype == weight_t.dtype


def _widened(x: Tensor, weight_t: Tensor) -> Tensor:
    """``x @ weight_t`` in float32, without a float32 copy of the whole weight."""
    inputs, outputs = weight_t.shape
    y = torch.zeros(len(x), outputs)
    step = max(1, _DENSE_BLOCK // max(1, outputs))
    for start in range(0, inputs, step):
        stop = start + step
        y.addmm_(x[:, start:stop].float(), weight_t[start:stop].float())
    return y


@part
def _compact_one_row(x: Array, levels: Array, index: Array, value: Array) -> int:
    """The active inputs, and what they hold; written whether active or not, so as not to branch."""
    count = 0
    step = int(len(levels) > 1)
    for i in range(len(x)):
        index[count] = i
        value[count] = wide(x[i])
        count += int(not abs(wide(x[i])) <= levels[i * step])
    return count


@part
def _compact_rows(x: Array, rows: int, levels: Array, index: Array, values: Array) -> int:
    """Inputs active in any row, and what each row holds there: 0 where it is not active itself."""
    count, inputs = 0, len(index)
    step = int(len(levels) > 1)
    for i in range(inputs):
        active = 0
        for row in range(rows):
            value = wide(x[row * inputs + i])
            keep = int(not abs(value) <= levels[i * step])
            values[row, count] = value if keep else np.float32(0)
            active |= keep
        index[count] = i
        count += active
    return count


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
    """Four rows of the weight, each read once, into the sums of four rows of x."""
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
        acc[c + _QUARTER] += b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3
        acc[c + 2 * _QUARTER] += c0 * u0 + c1 * u1 + c2 * u2 + c3 * u3
        acc[c + 3 * _QUARTER] += d0 * u0 + d1 * u1 + d2 * u2 + d3 * u3


@part
def _sum_one_row(
    acc: Array, size: int, weight: Array, stride: int, count: int, index: Array, values: Array
) -> None:
    acc = acc[:size]
    line = _LINE // weight.itemsize
    whole = count - count % 8
    for k in range(0, whole, 8):
        for ahead in range(k + 8, min(k + 16, count)):
            fetch(weight, index[ahead] * stride)
            fetch(weight, index[ahead] * stride + min(size - 1, line))
        _add_eight(acc, weight, stride, index[k : k + 8], values[0, k : k + 8])
    for k in range(whole, count):
        _add_one(acc, weight[index[k] * stride :][:size], values[0, k])


@part
def _sum_rows(
    acc: Array, size: int, weight: Array, stride: int, count: int, index: Array, values: Array
) -> None:
    whole = count - count % 4
    for k in range(0, whole, 4):
        for row in range(0, len(values), 4):
            sums = acc[row * _QUARTER :]
            given = values[row : row + 4, k : k + 4]
            _add_four_to_four(sums, weight, stride, size, index[k : k + 4], given)
    for k in range(whole, count):
        for row in range(len(values)):
            sums = acc[row * _QUARTER :][:size]
            _add_one(sums, weight[index[k] * stride :][:size], values[row, k])


@part
def _finish(
    acc: Array, row: int, start: int, size: int, source: Array, y: Array, like: Array
) -> None:
    """Scale, add the bias and write one row of a slice."""
    width = source[4]
    if source[2]:
        scale = at(source[2], width, like)
        for c in range(size):
            acc[c] *= scale[start + c]
    if source[1]:
        bias = at(source[1], width, like)
        for c in range(size):
            acc[c] += bias[start + c]
    for c in range(size):
        y[row * width + start + c] = narrow(acc[c], y[0])


@part
def _outputs(
    start: int,
    stop: int,
    sources: Array,
    inputs: int,
    rows: int,
    count: int,
    index: Array,
    values: Array,
    like_x: Array,
    like_weight: Array,
) -> None:
    """The outputs from `start` to `stop`, counted over all weights."""
    tall = len(values)
    reach, pitch = (_SLICE, 0) if rows == 1 else (_QUARTER, _QUARTER)
    acc = np.empty(max(_SLICE, tall * pitch), np.float32)
    first = 0
    for source in sources:
        width = source[4]
        weight = at(source[0], inputs * width, like_weight)
        y = at(source[3], rows * width, like_x)
        last = min(stop - first, width)
        for place in range(max(0, start - first), last, reach):
            size = min(reach, last - place)
            for row in range(tall):
                acc[row * pitch : row * pitch + size] = 0
            if rows == 1:
                _sum_one_row(acc, size, weight[place:], width, count, index, values)
            else:
                _sum_rows(acc, size, weight[place:], width, count, index, values)
            for row in range(rows):
                _finish(acc[row * pitch :], row, place, size, source, y, acc)
        first += width


@part
def _prepare(
    x_address: int,
    rows: int,
    inputs: int,
    level_address: int,
    per_input: int,
    like_x: Array,
) -> tuple[int, Array, Array]:
    """How many inputs are active, which, and their values in each row."""
    index = np.empty(inputs, np.int64)
    values = np.empty((1 if rows == 1 else -(-rows // 4) * 4, inputs), np.float32)
    x = at(x_address, rows * inputs, like_x)
    levels = at(level_address, inputs if per_input else 1, values)
    if rows == 1:
        count = _compact_one_row(x, levels, index, values[0])
    else:
        values[rows:] = 0  # rows are summed in fours
        count = _compact_rows(x, rows, levels, index, values)
    return count, index, values


@part
def _gather_alone(
    start: int,
    stop: int,
    line: int,
    sources: Array,
    x_address: int,
    rows: int,
    inputs: int,
    level_address: int,
    per_input: int,
    inputs_at_most: int,
    like_x: Array,
    like_weight: Array,
) -> bool:
    count, index, values = _prepare(x_address, rows, inputs, level_address, per_input, like_x)
    if count > inputs_at_most:
        return False
    _outputs(
        start * line,
        stop * line,
        sources,
        inputs,
        rows,
        count,
        index,
        values,
        like_x,
        like_weight,
    )
    return True


@driver
def _gather(
    chunks: int,
    lines: int,
    line: int,
    sources: Array,
    x_address: int,
    rows: int,
    inputs: int,
    level_address: int,
    per_input: int,
    inputs_at_most: int,
    like_x: Array,
    like_weight: Array,
) -> bool:
    count, index, values = _prepare(x_address, rows, inputs, level_address, per_input, like_x)
    if count > inputs_at_most:
        return False
    for chunk in prange(chunks):
        _outputs(
            chunk * lines // chunks * line,
            (chunk + 1) * lines // chunks * line,
            sources,
            inputs,
            rows,
            count,
            index,
            values,
            like_x,
            like_weight,
        )
    return True
