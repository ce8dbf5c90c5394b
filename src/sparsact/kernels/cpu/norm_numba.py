"""Root mean square normalisation of a few rows; torch needs six operations for it."""

import math

import numpy as np
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, part, summing_part
from sparsact.kernels.cpu.kernel_dtypes import narrow, wide
from sparsact.kernels.cpu.tensor_memory import LIKE, at


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / √(mean(x²) + ε) · weight`` over the last dim, on one thread; arguments are not checked.

    Args:
        x: (..., d), float32 or bfloat16.
        weight: (d,), contiguous, float32 or bfloat16.
        eps: ε.
    """
    x = x.contiguous()
    y = x.new_empty(x.shape)
    width = len(weight)
    _rows(
        x.data_ptr(),
        weight.data_ptr(),
        y.data_ptr(),
        math.prod(x.shape[:-1]),
        width,
        eps,
        LIKE[x.dtype],
        LIKE[weight.dtype],
    )
    return y


@summing_part
def _sum_of_squares(x: Array) -> np.float32:
    total = np.float32(0)
    for i in range(len(x)):
        value = wide(x[i])
        total += value * value
    return total


@part
def _rows(
    x_address: int,
    weight_address: int,
    y_address: int,
    rows: int,
    width: int,
    eps: float,
    like_x: Array,
    like_weight: Array,
) -> None:
    x, y = at(x_address, rows * width, like_x), at(y_address, rows * width, like_x)
    weight = at(weight_address, width, like_weight)
    for row in range(rows):
        source, out = x[row * width :][:width], y[row * width :][:width]
        factor = np.float32(1 / math.sqrt(_sum_of_squares(source) / width + eps))
        for i in range(width):
            out[i] = narrow(wide(source[i]) * factor * wide(weight[i]), like_x[0])
