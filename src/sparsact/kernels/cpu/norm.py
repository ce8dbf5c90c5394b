"""Root mean square normalisation of a few rows; torch needs six operations for it."""

import math

from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, REAL, function

_rms_norm = function(
    "rms_norm",
    *(INTEGER, ADDRESS, ADDRESS, ADDRESS),  # dtype, x, weight, out
    *(INTEGER, INTEGER, REAL),  # rows, width, ε
)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / √(mean(x²) + ε) · weight`` over the last dim, on one thread; arguments are not checked.

    Args:
        x: (..., d), float32 or bfloat16.
        weight: (d,), contiguous, of the dtype of `x`.
        eps: ε.
    """
    x = x.contiguous()
    y, rows = x.new_empty(x.shape), math.prod(x.shape[:-1])
    addresses = (x.data_ptr(), weight.data_ptr(), y.data_ptr())
    _rms_norm(FLOATS[x.dtype], *addresses, rows, len(weight), eps)
    return y
