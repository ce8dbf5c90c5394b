"""Shrinkage in one pass over memory; backward also sums the gradient of λ."""

import math

import numpy as np
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.kernel_dtypes import narrow, wide
from sparsact.kernels.cpu.threshold_levels import LENGTH, backward, forward, place, spread, store

_RECTANGLE, _TRIANGLE, _SIGMOID = 0, 1, 2
_KERNELS = {"rectangle": _RECTANGLE, "triangle": _TRIANGLE, "sigmoid": _SIGMOID}


def softshrink(x: Tensor, level: Tensor) -> Tensor:
    """``sign(x)·max(|x| − λ, 0)``."""
    return forward(_soft, _soft_units, x, level)


def softshrink_backward(grad: Tensor, output: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and λ, computed from the output."""
    grad_x, (grad_level,) = backward(_soft_back, _soft_back_units, grad, output, level)
    return grad_x, grad_level


def hardshrink(x: Tensor, level: Tensor) -> Tensor:
    """``x·1[|x| > λ]``."""
    return forward(_hard, _hard_units, x, level)


def hardshrink_backward(
    grad: Tensor, x: Tensor, level: Tensor, bandwidth: float, kernel: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and of λ, the latter through a window of this width and shape."""
    window = (bandwidth, _KERNELS[kernel])
    grad_x, (grad_level,) = backward(_hard_back, _hard_back_units, grad, x, level, window=window)
    return grad_x, grad_level


@part
def _soft_units(
    start: int, stop: int, channels: int, inner: int, x: Array, level: Array, out: Array
) -> None:
    room = np.empty(LENGTH, level.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = place(unit, x.size, channels, inner)
        bound = spread(level, channel, inner, room[:length])
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
    room = np.empty(LENGTH, level.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = place(unit, x.size, channels, inner)
        bound = spread(level, channel, inner, room[:length])
        for begin in range(first, first + count * step, step):
            source, target = x[begin : begin + length], out[begin : begin + length]
            for j in range(length):
                target[j] = zero if abs(wide(source[j])) <= bound[j] else source[j]


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
    room = np.empty(LENGTH, level.dtype)
    for unit in range(start, stop):
        first, step, count, length, _ = place(unit, grad.size, channels, inner)
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
        store(sums, partial, unit, first, channels, inner)


@part
def _fill_window(source: Array, bound: Array, bandwidth: float, kernel: int, weight: Array) -> None:
    """Write the window of the straight-through gradient; separate loops vectorise."""
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
    rooms = np.empty((3, LENGTH), level.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = place(unit, grad.size, channels, inner)
        bound = spread(level, channel, inner, rooms[0, :length])
        weight, sums = rooms[1, :length], rooms[2, :length]
        sums[:] = zero
        for begin in range(first, first + count * step, step):
            end = begin + length
            slope, source, target = grad[begin:end], x[begin:end], grad_x[begin:end]
            _fill_window(source, bound, width, kernel, weight)
            for j in range(length):
                # both are read unconditionally: a conditional read would not be vectorised
                value, pull = wide(source[j]), wide(slope[j])
                target[j] = nothing if abs(value) <= bound[j] else slope[j]
                push = bound[j] * weight[j] * pull
                sums[j] += -push if value > zero else (push if value < zero else zero * push)
        store(sums, partial, unit, first, channels, inner)


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
