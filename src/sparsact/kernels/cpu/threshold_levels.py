"""Elementwise kernels with levels that vary along at most one dim: how work is cut and summed.

The cut into units depends on the shapes alone. Each unit has its own partial sum, and these are
added in order, so the bits of a level's gradient do not depend on the number of threads.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.cpu.compiling import Array, part, summing_part
from sparsact.kernels.cpu.tensor_memory import array
from sparsact.kernels.cpu.threads import run

_ROWS = 64  # rows of a unit if levels vary along memory: its sums are 1/64 of the input's size
LENGTH = 2048  # entries of a segment at most: its levels, sums and data fit the first cache


def forward(
    driver: Callable[..., None], part: Callable[..., None], x: Tensor, *levels: Tensor
) -> Tensor:
    """Run a kernel that takes the input, the levels and the output."""
    out = torch.empty_like(x)
    if not out.numel():
        return out
    channels, inner, units, _ = _cut(out, levels)
    rows = [_row(level, channels) for level in levels]
    run(driver, part, units, channels, inner, _memory(x, out), *rows, _memory(out, out))
    return out


def backward(
    driver: Callable[..., None],
    part: Callable[..., None],
    grad: Tensor,
    saved: Tensor,
    *levels: Tensor,
    window: tuple[float, ...] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Run a kernel that also writes partial sums; return the gradients of x and the levels."""
    grad_x = torch.empty_like(saved)
    if not grad_x.numel():
        return grad_x, [torch.zeros_like(level) for level in levels]
    channels, inner, units, count = _cut(grad_x, levels)
    rows = [_row(level, channels) for level in levels]
    partials = [np.zeros(count, row.dtype) for row in rows]
    arrays = [_memory(grad, grad_x), _memory(saved, grad_x), *rows, _memory(grad_x, grad_x)]
    run(driver, part, units, channels, inner, *arrays, *partials, *window)
    blocks = -(-inner // LENGTH)
    return grad_x, [
        _total(level, channels, blocks, partial)
        for level, partial in zip(levels, partials, strict=True)
    ]


def _total(level: Tensor, channels: int, blocks: int, partial: Array) -> Tensor:
    total = torch.empty(level.shape)
    _add_up(channels, blocks, partial, array(total).reshape(-1))
    return total.to(level.dtype)


def _cut(x: Tensor, levels: tuple[Tensor, ...]) -> tuple[int, int, int, int]:
    """Cut the memory of `x`, in its dense layout, into units.

    Returns:
        the number of channels (one for each λ), the stride from one channel to the next, the
        number of units, and the number of partial sums that they write.
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
        raise InputError(f"levels may vary along one dim only, got the shape {tuple(shape)}")
    if inner > 1:
        units = x.numel() // inner * -(-inner // LENGTH)
        return channels, inner, units, units
    strips = -(-x.numel() // (channels * _ROWS))
    return channels, inner, strips * -(-channels // LENGTH), strips * channels


def _row(level: Tensor, channels: int) -> Array:
    """Return a level for each channel, in the dtype of the comparison."""
    return array(level.detach().float().reshape(-1).expand(channels).contiguous())


def _memory(tensor: Tensor, model: Tensor) -> Array:
    """Return the entries of `tensor` in the memory order of the dense tensor `model`."""
    if tensor.stride() != model.stride():
        tensor = torch.empty_like(model).copy_(tensor)
    return array(tensor.as_strided((tensor.numel(),), (1,)))


@part
def place(unit: int, size: int, channels: int, inner: int) -> tuple[int, int, int, int, int]:
    """Return a unit's first entry, its segments' distance, count and length, and its channel."""
    if inner > 1:
        blocks = (inner + LENGTH - 1) // LENGTH
        line, block = unit // blocks, unit % blocks
        first = line * inner + block * LENGTH
        return first, inner, 1, min(LENGTH, inner - block * LENGTH), line % channels
    blocks = (channels + LENGTH - 1) // LENGTH
    strip, channel = unit // blocks, unit % blocks * LENGTH
    count = min(_ROWS, size // channels - strip * _ROWS)
    length = min(LENGTH, channels - channel)
    return strip * _ROWS * channels + channel, channels, count, length, channel


@part
def spread(level: Array, channel: int, inner: int, room: Array) -> Array:
    """Return λ for each entry of a segment."""
    if inner == 1:
        return level[channel : channel + len(room)]
    room[:] = level[channel]
    return room


@summing_part
def store(sums: Array, partial: Array, unit: int, first: int, channels: int, inner: int) -> None:
    """Write a unit's sums to their place."""
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
    """Add partial sums in order, in float64; all channels may share one total."""
    sums = np.zeros(channels)
    for place in range(len(partial)):
        sums[place // blocks % channels] += partial[place]
    wide_total = np.zeros(len(total))
    for channel in range(channels):
        wide_total[channel % len(total)] += sums[channel]
    total[:] = wide_total
