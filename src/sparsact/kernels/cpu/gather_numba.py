"""Linear layers that skip inactive inputs.

The active inputs are compacted once. Then the threads split the outputs: each reads its slice of
every active row of the weight. A slice is as long as its accumulators fit into the first cache: a
row of the weight is one run of memory, and long runs are read fastest.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.gather_dense import dense
from sparsact.kernels.cpu.gather_sums import LINE, QUARTER, SLICE, sum_one_row, sum_rows
from sparsact.kernels.cpu.kernel_dtypes import narrow, wide
from sparsact.kernels.cpu.tensor_memory import LIKE, at
from sparsact.kernels.cpu.threads import run
from sparsact.kernels.reference.gather_reference import check

ROWS_AT_MOST = 64  # more rows of x are faster with the dense product, see the benchmark's `rows`
_WORTH_THREADS = 1 << 16  # weights below which a second thread costs more than it gains


def gather_linear(
    x: Tensor,
    weights_t: list[Tensor],
    threshold: Tensor,
    biases: list[Tensor | None],
    scales: list[Tensor | None],
    inputs_at_most: int,
) -> list[Tensor]:
    """Return one output for each weight; dense beyond `ROWS_AT_MOST` or `inputs_at_most`."""
    check(x, weights_t, threshold, biases, scales)
    return Product(weights_t, threshold, biases, scales)(x, inputs_at_most)


class Product:
    """`gather_linear` with arguments that are known to be valid, prepared for many `x`.

    Memory is read by address: the tensors' contents may change, and their memory is kept alive.
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
        self._line = LINE if inputs * total >= _WORTH_THREADS else max(1, total)
        self._lines = -(-total // self._line)
        self._like = LIKE[weights_t[0].dtype]
        # for each weight: addresses of the weight, bias and scale, then of the output, which
        # each call fills in
        self._sources = np.array(
            [
                (w.data_ptr(), _address(b), _address(s), 0, w.shape[1])
                for w, b, s in zip(self._weights_t, self._biases, self._scales, strict=True)
            ],
            dtype=np.int64,
        )

    def __call__(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        """Compute the outputs; densely beyond `ROWS_AT_MOST` or `inputs_at_most`."""
        if math.prod(x.shape[:-1]) > ROWS_AT_MOST:
            return self._dense(x)
        outputs = self.skipping(x, inputs_at_most)
        return self._dense(x) if outputs is None else outputs

    def skipping(self, x: Tensor, inputs_at_most: int) -> list[Tensor] | None:
        """Compute the outputs by skipping inputs, or return None if more are active than that."""
        *shape, inputs = x.shape
        rows = math.prod(shape)
        x = x.contiguous()
        outputs = [x.new_empty(*shape, width) for width in self._widths]
        sources = self._sources.copy()
        sources[:, 3] = [y.data_ptr() for y in outputs]
        is_done = run(
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
        return outputs if is_done else None

    def _dense(self, x: Tensor) -> list[Tensor]:
        return dense(x, self._weights_t, self._level, self._biases, self._scales)


def _plain(vector: Tensor) -> Tensor:
    return vector.detach().float().contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@part
def _compact_one_row(x: Array, levels: Array, index: Array, value: Array) -> int:
    """Write the active inputs and their values; every input is written, to avoid a branch."""
    count = 0
    step = int(len(levels) > 1)
    for i in range(len(x)):
        index[count] = i
        value[count] = wide(x[i])
        count += int(not abs(wide(x[i])) <= levels[i * step])
    return count


@part
def _compact_rows(x: Array, rows: int, levels: Array, index: Array, values: Array) -> int:
    """Write the inputs active in any row, and each row's value there: 0 where it is inactive."""
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
    """Compute the outputs from `start` to `stop`, counted over all weights."""
    tall = len(values)
    reach, pitch = (SLICE, 0) if rows == 1 else (QUARTER, QUARTER)
    acc = np.empty(max(SLICE, tall * pitch), np.float32)
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
                sum_one_row(acc, size, weight[place:], width, count, index, values)
            else:
                sum_rows(acc, size, weight[place:], width, count, index, values)
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
    """Return the number of active inputs, which they are, and their values in each row."""
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
