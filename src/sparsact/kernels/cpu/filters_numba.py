"""Analysis and synthesis of a filter bank along the middle dim of (before, size, after).

If after > 1, a unit of work is a row of the result. If after = 1, samples are first sorted by their
phase into a short buffer, so that every sum runs along memory.
"""

import numpy as np
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part, summing_part
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run


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
    before, _, after = x.shape
    out = x.new_empty(2, before, coefficients, after)
    taps = np.array([low, high], np.float32)
    units = before if after == 1 else before * coefficients
    run(_analyse, _analyse_units, units, array(x), taps, stride, dilation, left, array(out))
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
    before, _, after = low.shape
    out = low.new_empty(before, samples, after)
    taps = np.array([low_taps, high_taps], np.float32)
    bands = array(low.contiguous()), array(high.contiguous())
    units = before if after == 1 else before * samples
    run(_synthesise, _synthesise_units, units, *bands, taps, stride, dilation, start, array(out))
    return out


@part
def _mirror(place: int, size: int) -> int:
    place %= 2 * size
    return place if place < size else 2 * size - 1 - place


@summing_part
def _add_both(
    first: Array, second: Array, source: Array, first_tap: np.float32, second_tap: np.float32
) -> None:
    for i in range(len(first)):
        value = source[i]
        first[i] += first_tap * value
        second[i] += second_tap * value


@summing_part
def _add_from_both(
    total: Array, first: Array, second: Array, first_tap: np.float32, second_tap: np.float32
) -> None:
    for i in range(len(total)):
        total[i] += first_tap * first[i] + second_tap * second[i]


@part
def _analyse_units(
    begin: int,
    end: int,
    x: Array,
    taps: Array,
    stride: int,
    dilation: int,
    left: int,
    out: Array,
) -> None:
    size, after, coefficients, length = x.shape[1], x.shape[2], out.shape[2], taps.shape[1]
    if after > 1:
        for unit in range(begin, end):
            block, k = unit // coefficients, unit % coefficients
            low, high = out[0, block, k], out[1, block, k]
            low[:], high[:] = 0, 0
            for j in range(length):
                row = x[block, _mirror(k * stride + j * dilation - left, size)]
                _add_both(low, high, row, taps[0, j], taps[1, j])
        return
    reach = coefficients + (length - 1) * dilation // stride + 1
    phases = np.empty((stride, reach), np.float32)
    for block in range(begin, end):
        line = x[block].reshape(size)
        _by_phase(line, stride, left, phases)
        low, high = out[0, block].reshape(coefficients), out[1, block].reshape(coefficients)
        low[:], high[:] = 0, 0
        for j in range(length):
            shift = j * dilation // stride
            source = phases[j * dilation % stride, shift : shift + coefficients]
            _add_both(low, high, source, taps[0, j], taps[1, j])


@part
def _by_phase(line: Array, stride: int, left: int, phases: Array) -> None:
    """Set ``phases[p, i]`` to the sample at ``i·stride + p − left``, mirrored."""
    size, reach = len(line), phases.shape[1]
    for p in range(stride):
        first = min(reach, max(0, -((p - left) // stride)))  # the first index inside
        last = max(first, min(reach, (size - 1 - p + left) // stride + 1))
        inside = phases[p]
        for i in range(first):
            inside[i] = line[_mirror(i * stride + p - left, size)]
        offset = p - left
        for i in range(first, last):
            inside[i] = line[i * stride + offset]
        for i in range(last, reach):
            inside[i] = line[_mirror(i * stride + p - left, size)]


@driver
def _analyse(
    chunks: int,
    units: int,
    x: Array,
    taps: Array,
    stride: int,
    dilation: int,
    left: int,
    out: Array,
) -> None:
    for chunk in prange(chunks):
        begin, end = chunk * units // chunks, (chunk + 1) * units // chunks
        _analyse_units(begin, end, x, taps, stride, dilation, left, out)


@part
def _synthesise_units(
    begin: int,
    end: int,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
    out: Array,
) -> None:
    samples, after, coefficients, length = out.shape[1], out.shape[2], low.shape[1], taps.shape[1]
    if after > 1:
        for unit in range(begin, end):
            block, q = unit // samples, unit % samples
            total = out[block, q]
            total[:] = 0
            for j in range(length):
                place = q + start - j * dilation
                k = place // stride
                if place % stride == 0 and 0 <= k < coefficients:
                    _add_from_both(total, low[block, k], high[block, k], taps[0, j], taps[1, j])
        return
    room = np.empty((samples + stride - 1) // stride, np.float32)
    for block in range(begin, end):
        lows, highs = low[block].reshape(coefficients), high[block].reshape(coefficients)
        signal = out[block].reshape(samples)
        for p in range(stride):
            total = room[: (samples - p + stride - 1) // stride]
            total[:] = 0
            for j in range(length):
                place = p + start - j * dilation
                if place % stride == 0:
                    shift = place // stride  # from a sample's index in its phase to k
                    first = max(0, -shift)
                    last = max(first, min(len(total), coefficients - shift))
                    one, other = (
                        lows[first + shift : last + shift],
                        highs[first + shift : last + shift],
                    )
                    _add_from_both(total[first:last], one, other, taps[0, j], taps[1, j])
            for i in range(len(total)):
                signal[i * stride + p] = total[i]


@driver
def _synthesise(
    chunks: int,
    units: int,
    low: Array,
    high: Array,
    taps: Array,
    stride: int,
    dilation: int,
    start: int,
    out: Array,
) -> None:
    for chunk in prange(chunks):
        begin, end = chunk * units // chunks, (chunk + 1) * units // chunks
        _synthesise_units(begin, end, low, high, taps, stride, dilation, start, out)
