"""The maps of `filtering` as compiled loops for the CPU: each sample is read once, not per tap."""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels._cpu.runtime import Array, array, driver, run, summing_part


def analyse(x: Tensor, low: Tensor, high: Tensor, taps: Array, steps: tuple[int, int, int]) -> None:
    """Fill both bands, (rows, coefficients, columns), from x, (rows, samples, columns).

    Args:
        x: contiguous.
        low: contiguous.
        high: contiguous.
        taps: (2, taps), in the dtype of x.
        steps: stride, dilation and start.
    """
    arrays = array(x), array(low), array(high), taps, *steps
    if x.shape[2] == 1:
        run(_analyse_lines, _analyse_lines_part, len(x), *arrays)
    else:
        run(_analyse_rows, _analyse_rows_part, len(x) * low.shape[1], *arrays)


def synthesise(
    x: Tensor, low: Tensor, high: Tensor, taps: Array, steps: tuple[int, int, int]
) -> None:
    """Fill x from both bands, as :func:`analyse` takes them."""
    arrays = array(x), array(low), array(high), taps, *steps
    if x.shape[2] == 1:
        run(_synthesise_lines, _synthesise_lines_part, len(x), *arrays)
    else:
        run(_synthesise_rows, _synthesise_rows_part, len(x) * x.shape[1], *arrays)


def tap_array(taps: tuple[tuple[float, ...], tuple[float, ...]], dtype: torch.dtype) -> Array:
    """Both filters as the loops read them."""
    return np.array(taps, np.float64 if dtype == torch.float64 else np.float32)


@summing_part
def _analyse_rows_part(
    begin: int,
    end: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for unit in range(begin, end):
        row, k = unit // low.shape[1], unit % low.shape[1]
        into_low, into_high = low[row, k], high[row, k]
        into_low[:] = 0
        into_high[:] = 0
        for j in range(taps.shape[1]):
            q = k * stride + j * dilation - start
            if 0 <= q < x.shape[1]:
                a, b, source = taps[0, j], taps[1, j], x[row, q]
                for c in range(len(source)):
                    into_low[c] += a * source[c]
                    into_high[c] += b * source[c]


@summing_part
def _synthesise_rows_part(
    begin: int,
    end: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for unit in range(begin, end):
        row, q = unit // x.shape[1], unit % x.shape[1]
        into = x[row, q]
        into[:] = 0
        for j in range(taps.shape[1]):
            k = q + start - j * dilation
            if k % stride == 0 and 0 <= k < low.shape[1] * stride:
                a, b = taps[0, j], taps[1, j]
                from_low, from_high = low[row, k // stride], high[row, k // stride]
                for c in range(len(into)):
                    into[c] += a * from_low[c] + b * from_high[c]


@summing_part
def _analyse_lines_part(
    begin: int,
    end: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for row in range(begin, end):
        source, into_low, into_high = x[row, :, 0], low[row, :, 0], high[row, :, 0]
        into_low[:] = 0
        into_high[:] = 0
        for j in range(taps.shape[1]):
            a, b, offset = taps[0, j], taps[1, j], j * dilation - start
            first = max(0, (-offset + stride - 1) // stride)
            last = min(len(into_low), (len(source) - offset + stride - 1) // stride)
            for k in range(first, last):
                value = source[k * stride + offset]
                into_low[k] += a * value
                into_high[k] += b * value


@summing_part
def _synthesise_lines_part(
    begin: int,
    end: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for row in range(begin, end):
        into, from_low, from_high = x[row, :, 0], low[row, :, 0], high[row, :, 0]
        into[:] = 0
        for j in range(taps.shape[1]):
            a, b, offset = taps[0, j], taps[1, j], j * dilation - start
            first = max(0, (-offset + stride - 1) // stride)
            last = min(len(from_low), (len(into) - offset + stride - 1) // stride)
            for k in range(first, last):
                into[k * stride + offset] += a * from_low[k] + b * from_high[k]


@driver
def _analyse_rows(
    chunks: int,
    units: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for i in prange(chunks):
        begin, end = i * units // chunks, (i + 1) * units // chunks
        _analyse_rows_part(begin, end, x, low, high, taps, stride, dilation, start)


@driver
def _synthesise_rows(
    chunks: int,
    units: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for i in prange(chunks):
        begin, end = i * units // chunks, (i + 1) * units // chunks
        _synthesise_rows_part(begin, end, x, low, high, taps, stride, dilation, start)


@driver
def _analyse_lines(
    chunks: int,
    units: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for i in prange(chunks):
        begin, end = i * units // chunks, (i + 1) * units // chunks
        _analyse_lines_part(begin, end, x, low, high, taps, stride, dilation, start)


@driver
def _synthesise_lines(
    chunks: int,
    units: int,
    x: Array,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
) -> None:
    for i in prange(chunks):
        begin, end = i * units // chunks, (i + 1) * units // chunks
        _synthesise_lines_part(begin, end, x, low, high, taps, stride, dilation, start)
