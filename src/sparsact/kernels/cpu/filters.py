"""Analysis and synthesis of a filter bank along the middle dim of (before, size, after)."""

import ctypes

from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, INTEGER, REALS, function
from sparsact.kernels.cpu.threads import threads

_Numbers = ctypes.c_int64 * 8
_analyse = function("filter_mirrored", INTEGER, ADDRESS, INTEGER, *(ADDRESS, ADDRESS, ADDRESS))
_synthesise = function("filter_transposed", INTEGER, ADDRESS, INTEGER, *(ADDRESS,) * 4)


def filter_mirrored(
    x: Tensor,
    low: list[float],
    high: list[float],
    stride: int,
    dilation: int,
    left: int,
    coefficients: int,
) -> Tensor:
    """``band[k] = Σ_j taps[j]·x[k·stride + j·dilation − left]``, mirrored beyond both borders."""
    x = x.contiguous()
    before, samples, after = x.shape
    out = x.new_empty(2, before, coefficients, after)
    taps = (ctypes.c_double * (2 * len(low)))(*low, *high)
    geometry = _Numbers(before, samples, after, coefficients, len(low), stride, dilation, left)
    units = before if after == 1 else before * coefficients
    addresses = (x.data_ptr(), taps, out.data_ptr())
    _analyse(threads(units), geometry, REALS[x.dtype], *addresses)
    return out


def filter_transposed(
    low: Tensor,
    high: Tensor,
    low_taps: list[float],
    high_taps: list[float],
    stride: int,
    dilation: int,
    start: int,
    samples: int,
) -> Tensor:
    """``x[q] = Σ taps[j]·band[k]``, all ``q = k·stride + j·dilation − start`` of both bands."""
    low, high = low.contiguous(), high.contiguous()
    before, coefficients, after = low.shape
    out = low.new_empty(before, samples, after)
    taps = (ctypes.c_double * (2 * len(low_taps)))(*low_taps, *high_taps)
    sizes = (before, samples, after, coefficients, len(low_taps))
    geometry = _Numbers(*sizes, stride, dilation, start)
    units = before if after == 1 else before * samples
    addresses = (low.data_ptr(), high.data_ptr(), taps, out.data_ptr())
    _synthesise(threads(units), geometry, REALS[low.dtype], *addresses)
    return out
