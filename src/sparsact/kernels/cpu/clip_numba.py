"""Clipping in one pass over memory; backward also sums the gradients of the bounds."""

import numpy as np
from numba import prange
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, driver, part
from sparsact.kernels.cpu.kernel_dtypes import narrow, wide
from sparsact.kernels.cpu.threshold_levels import LENGTH, backward, forward, place, spread, store


def clip(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """``clamp(x, lo, hi)``."""
    return forward(_clip, _clip_units, x, lo, hi)


def clip_backward(grad: Tensor, x: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `x` and of both bounds."""
    grad_x, (grad_lo, grad_hi) = backward(_clip_back, _clip_back_units, grad, x, lo, hi)
    return grad_x, grad_lo, grad_hi


@part
def _clip_units(
    start: int, stop: int, channels: int, inner: int, x: Array, lo: Array, hi: Array, out: Array
) -> None:
    low_room, high_room = np.empty(LENGTH, lo.dtype), np.empty(LENGTH, hi.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = place(unit, x.size, channels, inner)
        low = spread(lo, channel, inner, low_room[:length])
        high = spread(hi, channel, inner, high_room[:length])
        for begin in range(first, first + count * step, step):
            source, target = x[begin : begin + length], out[begin : begin + length]
            for j in range(length):
                value = wide(source[j])
                raised = low[j] if value < low[j] else value
                target[j] = narrow(high[j] if raised > high[j] else raised, target[j])


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
    rooms = np.empty((4, LENGTH), lo.dtype)
    for unit in range(start, stop):
        first, step, count, length, channel = place(unit, grad.size, channels, inner)
        low = spread(lo, channel, inner, rooms[0, :length])
        high = spread(hi, channel, inner, rooms[1, :length])
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
        store(low_sums, partial_lo, unit, first, channels, inner)
        store(high_sums, partial_hi, unit, first, channels, inner)


@driver
def _clip(
    chunks: int, units: int, channels: int, inner: int, x: Array, lo: Array, hi: Array, out: Array
) -> None:
    for chunk in prange(chunks):
        start, stop = chunk * units // chunks, (chunk + 1) * units // chunks
        _clip_units(start, stop, channels, inner, x, lo, hi, out)


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
