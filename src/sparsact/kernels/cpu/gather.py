"""Linear layers that skip inactive inputs."""

import ctypes
import math
from collections.abc import Sequence

from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, WEIGHTS, function
from sparsact.kernels.cpu.threads import threads
from sparsact.kernels.gather_dense import dense
from sparsact.kernels.reference.gather_reference import check
from sparsact.kernels.reference.int4 import outputs

ROWS_AT_MOST = 64  # more rows of x are faster with the dense product, see the benchmark's `rows`
_WORTH_THREADS = 1 << 16  # weights below which a second thread costs more than it gains
_LINE = 64  # bytes in a cache line: threads begin at multiples of it

_gather = function(
    "gather_linear",
    *(INTEGER, INTEGER, INTEGER),  # threads, lines of outputs, outputs in a line
    *(ADDRESS, INTEGER),  # five numbers for each weight, weights
    *(ADDRESS, INTEGER, INTEGER, INTEGER),  # x, its dtype, rows, inputs
    *(ADDRESS, INTEGER, INTEGER),  # λ, whether it varies, inputs at most
    INTEGER,  # dtype of the weights
    returns=INTEGER,
)


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
        self._level, self._per_input = plain(threshold), threshold.ndim
        self._biases = [None if bias is None else plain(bias) for bias in biases]
        self._scales = [None if scale is None else plain(scale) for scale in scales]
        self._widths = [outputs(w, scale) for w, scale in zip(weights_t, scales, strict=True)]
        self._inputs, total = len(weights_t[0]), sum(self._widths)
        self._line = _LINE if self._inputs * total >= _WORTH_THREADS else max(1, total)
        self._lines = -(-total // self._line)
        self._dtype = WEIGHTS[weights_t[0].dtype]
        self._numbers = ctypes.c_int64 * (5 * len(self._widths))
        self._sources = [
            (w.data_ptr(), address(b), address(s))
            for w, b, s in zip(self._weights_t, self._biases, self._scales, strict=True)
        ]

    def __call__(self, x: Tensor, inputs_at_most: int) -> list[Tensor]:
        """Compute the outputs; densely beyond `ROWS_AT_MOST` or `inputs_at_most`."""
        if math.prod(x.shape[:-1]) > ROWS_AT_MOST:
            return self._dense(x)
        outputs = self.skipping(x, inputs_at_most)
        return self._dense(x) if outputs is None else outputs

    def skipping(self, x: Tensor, inputs_at_most: int) -> list[Tensor] | None:
        """Compute the outputs by skipping inputs, or return None if more are active than that."""
        shape = x.shape[:-1]
        x = x.contiguous()
        outputs = [x.new_empty(*shape, width) for width in self._widths]
        numbers = [
            number
            for source, output, width in zip(self._sources, outputs, self._widths, strict=True)
            for number in (*source, output.data_ptr(), width)
        ]
        is_done = _gather(
            threads(self._lines),
            self._lines,
            self._line,
            self._numbers(*numbers),
            len(outputs),
            x.data_ptr(),
            FLOATS[x.dtype],
            math.prod(shape),
            self._inputs,
            self._level.data_ptr(),
            self._per_input,
            inputs_at_most,
            self._dtype,
        )
        return outputs if is_done else None

    def _dense(self, x: Tensor) -> list[Tensor]:
        return dense(x, self._weights_t, self._level, self._biases, self._scales)


def plain(vector: Tensor) -> Tensor:
    """A vector whose memory the kernels can read: contiguous float32."""
    return vector.detach().float().contiguous()


def address(tensor: Tensor | None) -> int:
    """The address of a tensor's memory; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()
