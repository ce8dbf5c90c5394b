"""Thresholds in one pass: forward reads and writes once, backward sums λ's gradient on the way.

Levels vary along one dim at most. The work is cut into units by the shapes alone; each has a
partial sum of its own, and these are added in their order, so that λ's gradient has the same bits
for any number of threads.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsact.kernels._cpu.dtypes import narrow, wide
from sparsact.kernels._cpu.runtime import Array, array, driver, part, run, summing_part

_ROWS = 64  # of a unit where λ varies along the memory: its sums take 1/64 of the input
_LENGTH = 2048  # of a segment at most: λ, the sums and the data of one stay in the first cache
_RECTANGLE, _TRIANGLE, _SIGMOID = 0, 1, 2
_KERNELS = {"rectangle": _RECTANGLE, "triangle": _TRIANGLE, "sigmoid": _SIGMOID}


def softshrink(x: Tensor, level: Tensor) -> Tensor:
    """``sign(x)·max(|x| − λ, 0)``."""
    return _forward(_soft, _soft_units, x, level)


def softshrink_backward(grad: Tensor, output: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `x` and λ, from the output."""
    grad_x, (grad_level,) = _backward(_soft_back, _soft_back_units, grad, output, level)
    return grad_x, grad_level


def hardshrink(x: Tensor, level: Tensor) -> Tensor:
    """``x·1[|x| > λ]``."""
    return _forward(_hard, _hard_units, x, level)


def hardshrink_backward(
    grad: Tensor, x: Tensor, level: Tensor, bandwidth: float, kernel: str
) -> tuple[Tensor, Tensor]:
    """The gradients of `x` and, through a window of that width and shape, of λ."""
    window = (bandwidth, _KERNELS[kernel])
    grad_x, (grad_level,) = _backward(_hard_back, _hard_back_units, grad, x, level, window=window)
    return grad_x, grad_level


def clip(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """``clamp(x, lo, hi)``."""
    return _forward(_clip, _clip_units, x, lo, hi)


def clip_backward(grad: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `x` and of both bounds."""
    grad_x, (grad_lo, grad_hi) = _backward(_clip_back, _clip_back_units, grad, x, lo, hi)
    return grad_x, grad_lo, grad_hi


def _forward(
    driver: Callable[..., None], part: Callable[..., None], x: Tensor, *levels: Tensor
) -> Tensor:
    out = torch.empty_like(x)
    if not out.numel():
        return out
    channels, inner, units, _ = _cut(out, levels)
    rows = [_row(level, channels) for level in levels]
    run(driver, part, units, channels, inner, _memory(x, out), *rows, _memory(out, out))
    return out


def _backward(
    driver: Callable[..., None],
    part: Callable[..., None],
    grad: Tensor,
    saved: Tensor,
    *levels: Tensor,
    window: tuple[float, ...] = (),
) -> tuple[Tensor, list[Tensor]]:
    grad_x = torch.empty_like(saved)
    if not grad_x.numel():
        return grad_x, [torch.zeros_like(level) for level in levels]
    channels, inner, units, count = _cut(grad_x, levels)
    rows = [_row(level, channels) for level in levels]
    partials = [np.zeros(count, row.dtype) for row in rows]
    arrays = [_memory(grad, grad_x), _memory(saved, grad_x), *rows, _memory(grad_x, grad_x)]
    run(driver, part, units, channels, inner, *arrays, *partials, *window)
    blocks = -(-inner // _LENGTH)
    return grad_x, [
        _total(level, channels, blocks, partial)
        for level, partial in zip(levels, partials, strict=True)
    ]


def _total(level: Tensor, channels: int, blocks: int, partial: Array) -> Tensor:
    total = torch.empty(level.shape)
    _add_up(channels, blocks, partial, array(total).reshape(-1))
    return total.to(level.dtype)


def _cut(x: Tensor, levels: tuple[Tensor, ...]) -> tuple[int, int, int, int]:
    """How memory in the dense layout of `x` is cut.

    Returns:
        the number of channels (one for each λ), the stride from one to the next, the number of
        units, and of the partial sums that they fill.
    """
    shape = levels[0].shape
    for level in levels[1:]:
        shape = torch.broadcast_shapes(shape, level.shape)
    varying = [dim - len(shape) for dim, size in enumerate(shape) if size != 1]
    if not varying:
        channels, inner = 1, x.numel()
    elif len(varying) == 1:
        channels, inner = shape[varying[0]], x.stride(varying[0])
    else:
        raise ValueError(f"levels may vary along one dim, got the shape {tuple(shape)}")
    if inner > 1:
        units = x.numel() // inner * -(-inner // _LENGTH)
        return channels, inner, units, units
    strips = -(-x.numel() // (channels * _ROWS))
    return channels, inner, strips * -(-channels // _LENGTH), strips * channels


def _row(level: Tensor, channels: int) -> Array:
    """A level for each channel, in the dtype in which it is compared."""
    return array(level.detach().float().reshape(-1).expand(channels).contiguous())


def _memory(tensor: Tensor, model: Tensor) -> Array:
    """The entries of `tensor` in the order in which dense `model` holds them."""
    if tensor.stride() != model.stride():
        tensor = torch.empty_like(model).copy_(tensor)
    return array(tensor.as_strided((tensor.numel(),), (1,)))


@part
def _place(unit: int, size: int, channels: int, inner: int) -> tuple[int, int, int, int, int]:
    """A unit's first entry, its segments' distance, number and length, and its first channel."""
    if inner > 1:
        blocks = (inner + _LENGTH - 1) // _LENGTH
        line, block = unit // blocks, unit % blocks
        first = line * inner + block * _LENGTH
        return first, inner, 1, min(_LENGTH, inner - block * _LENGTH), line % channels
    blocks = (channels + _LENGTH - 1) // _LENGTH
    strip, channel = unit // blocks, unit % blocks * _LENGTH
    count = min(_ROWS, size // channels - strip * _ROWS)
    length = min(_LENGTH, channels - channel)
    return strip * _ROWS * channels + channel, channels, count, length, channel


@part
def _spread(level: Array, channel: int, inner: int, room: Array) -> Array:
    """λ for each entry of a segment."""
    if inner == 1:
        return level[channel : channel + len(room)]
    room[:] = level[channel]
    return room


@summing_part
def _store(sums: Array, partial: Array, unit: int, first: int, channels: int, inner: int) -> None:
    """Write a unit's sums to their own place."""
    if inner > 1:
        total = sums.dtype.type(0)
        for j in range(len(sums)):
            total += sums[j]
        partial[unit] = total
    else:
        start = first // channels // _ROWS * channels + first % channels
        partial[start : start + len(sums)] = sums


@part
def _add_up(channels: int, blocks: int, partial: Array, total: Array) -> None:
    """Add partial sums in their order, in float64; one total may be for all channels."""
    sums = np.zeros(channels)
    for place in range(len(partial)):
        sums[place // blocks % channels] += partial[place]
    wide_total = np.zeros(len(total))
    for channel in range(channels):
        wide_total[channel % len(total)] += sums[channel]
    total[:] = wide_total


@part
def _soft_units(
    start: int, stop: int, channels: int, inner: int, x: Array, level: Array, out: Array
) -> None:
    room = np.empty(_LENGTH, level.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = _place(unit, x.size, channels, inner)
        bound = _spread(level, channel, inner, room[:length])
        for begin in range(first, first + count * step, step):
            source, target = x[begin : begin + length], out[begin : begin + length]
            for j in range(length):
                value = wide(source[j])
                raised = -bound[j] if value < -bound[j] else value
                inner_part = bound[j] if raised > bound[j] else raised
                target[j] = narrow(value - inner_part, target[j])


@part
def _hard_units(
    start: int, stop: int, channels: int, inner: int, x: Array, level: Array, out: Array
) -> None:
    zero = out.dtype.type(0)
    room = np.empty(_LENGTH, level.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = _place(unit, x.size, channels, inner)
        bound = _spread(level, channel, inner, room[:length])
        for begin in range(first, first + count * step, step):
            source, target = x[begin : begin + length], out[begin : begin + length]
            for j in range(length):
                target[j] = zero if abs(wide(source[j])) <= bound[j] else source[j]


@part
def _clip_units(
    start: int, stop: int, channels: int, inner: int, x: Array, lo: Array, hi: Array, out: Array
) -> None:
    low_room, high_room = np.empty(_LENGTH, lo.dtype), np.empty(_LENGTH, hi.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = _place(unit, x.size, channels, inner)
        low = _spread(lo, channel, inner, low_room[:length])
        high = _spread(hi, channel, inner, high_room[:length])
        for begin in range(first, first + count * step, step):
            source, target = x[begin : begin + length], out[begin : begin + length]
            for j in range(length):
                value = wide(source[j])
                raised = low[j] if value < low[j] else value
                target[j] = narrow(high[j] if raised > high[j] else raised, target[j])


@part
def _soft_back_units(
    start: int,
    stop: int,
    channels: int,
    inner: int,
    grad: Array,
    output: Array,
    level: Array,
    grad_x: Array,
    partial: Array,
) -> None:
    nothing, zero = grad.dtype.type(0), level.dtype.type(0)
    room = np.empty(_LENGTH, level.dtype)
    for unit in range(start, stop):
        first, step, count, length, _ = _place(unit, grad.size, channels, inner)
        sums = room[:length]
        sums[:] = zero
        for begin in range(first, first + count * step, step):
            end = begin + length
            slope, source, target = grad[begin:end], output[begin:end], grad_x[begin:end]
            for j in range(length):
                value, pull = wide(source[j]), wide(slope[j])
                target[j] = nothing if value == zero else slope[j]
                pull = zero if value == zero else pull
                sums[j] += -pull if value > zero else (pull if value < zero else zero * pull)
        _store(sums, partial, unit, first, channels, inner)


@part
def _fill_window(source: Array, bound: Array, bandwidth: float, kernel: int, weight: Array) -> None:
    """See :func:`sparsact._thresholds.straight_through.window`; one loop each, to be vectorised."""
    one, zero = weight.dtype.type(1), weight.dtype.type(0)
    if kernel == _RECTANGLE:
        height, half = one / bandwidth, bandwidth * weight.dtype.type(0.5)
        for j in range(len(weight)):
            inside = abs(abs(wide(source[j])) - bound[j]) < half
            weight[j] = height if inside else zero
    elif kernel == _TRIANGLE:
        for j in range(len(weight)):
            height = one - abs(abs(wide(source[j])) - bound[j]) / bandwidth
            weight[j] = (zero if height < zero else height) / bandwidth
    else:
        rate = weight.dtype.type(4) / bandwidth
        for j in range(len(weight)):
            decay = math.exp(-abs(rate * (abs(wide(source[j])) - bound[j])))
            weight[j] = rate * decay / ((one + decay) * (one + decay))


@part
def _hard_back_units(
    start: int,
    stop: int,
    channels: int,
    inner: int,
    grad: Array,
    x: Array,
    level: Array,
    grad_x: Array,
    partial: Array,
    bandwidth: float,
    kernel: int,
) -> None:
    nothing, zero = grad.dtype.type(0), level.dtype.type(0)
    width = level.dtype.type(bandwidth)
    rooms = np.empty((3, _LENGTH), level.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = _place(unit, grad.size, channels, inner)
        bound = _spread(level, channel, inner, rooms[0, :length])
        weight, sums = rooms[1, :length], rooms[2, :length]
        sums[:] = zero
        for begin in range(first, first + count * step, step):
            end = begin + length
            slope, source, target = grad[begin:end], x[begin:end], grad_x[begin:end]
            _fill_window(source, bound, width, kernel, weight)
            for j in range(length):
                # both are read at once: a read under a condition would not be vectorised
                value, pull = wide(source[j]), wide(slope[j])
                target[j] = nothing if abs(value) <= bound[j] else slope[j]
                push = bound[j] * weight[j] * pull
                sums[j] += -push if value > zero else (push if value < zero else zero * push)
        _store(sums, partial, unit, first, channels, inner)


@part
def _clip_back_units(
    start: int,
    stop: int,
    channels: int,
    inner: int,
    grad: Array,
    x: Array,
    lo: Array,
    hi: Array,
    grad_x: Array,
    partial_lo: Array,
    partial_hi: Array,
) -> None:
    nothing, zero = grad.dtype.type(0), lo.dtype.type(0)
    rooms = np.empty((4, _LENGTH), lo.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = _place(unit, grad.size, channels, inner)
        low = _spread(lo, channel, inner, rooms[0, :length])
        high = _spread(hi, channel, inner, rooms[1, :length])
        low_sums, high_sums = rooms[2, :length], rooms[3, :length]
        low_sums[:] = zero
        high_sums[:] = zero
        for begin in range(first, first + count * step, step):
            end = begin + length
            slope, source, target = grad[begin:end], x[begin:end], grad_x[begin:end]
            for j in range(length):
                value, pull = wide(source[j]), wide(slope[j])
                below, above = value <= low[j], value >= high[j]
                target[j] = nothing if below or above else slope[j]
                low_sums[j] += pull if below else zero
                high_sums[j] += pull if above else zero
        _store(low_sums, partial_lo, unit, first, channels, inner)
        _store(high_sums, partial_hi, unit, first, channels, inner)


@driver
def _soft(
    chunks: int, units: int, channels: int, inner: int, x: Array, level: Array, out: Array
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        _soft_units(start, stop, channels, inner, x, level, out)


@driver
def _hard(
    chunks: int, units: int, channels: int, inner: int, x: Array, level: Array, out: Array
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        _hard_units(start, stop, channels, inner, x, level, out)


@driver
def _clip(
    chunks: int, units: int, channels: int, inner: int, x: Array, lo: Array, hi: Array, out: Array
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        _clip_units(start, stop, channels, inner, x, lo, hi, out)


@driver
def _soft_back(
    chunks: int,
    units: int,
    channels: int,
    inner: int,
    grad: Array,
    output: Array,
    level: Array,
    grad_x: Array,
    partial: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        _soft_back_units(start, stop, channels, inner, grad, output, level, grad_x, partial)


@driver
def _hard_back(
    chunks: int,
    units: int,
    channels: int,
    inner: int,
    grad: Array,
    x: Array,
    level: Array,
    grad_x: Array,
    partial: Array,
    bandwidth: float,
    kernel: int,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        arguments = (grad, x, level, grad_x, partial, bandwidth, kernel)
        _hard_back_units(start, stop, channels, inner, *arguments)


@driver
def _clip_back(
    chunks: int,
    units: int,
    channels: int,
    inner: int,
    grad: Array,
    x: Array,
    lo: Array,
    hi: Array,
    grad_x: Array,
    partial_lo: Array,
    partial_hi: Array,
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        arguments = (grad, x, lo, hi, grad_x, partial_lo, partial_hi)
        _clip_back_units(start, stop, channels, inner, *arguments)
