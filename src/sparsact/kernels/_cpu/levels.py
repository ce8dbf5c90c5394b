"""Work in one pass under levels that vary along one dim at most: how it is cut and summed.

Units are cut by the shapes alone; each has a partial sum of its own, and these are added in their
order, so that the gradient of a level has the same bits for any number of threads.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparsact.kernels._cpu.runtime import Array, array, part, run, summing_part

_ROWS = 64  # of a unit where levels vary along the memory: its sums take 1/64 of the input
LENGTH = 2048  # of a segment at most: levels, sums and data of one stay in the first cache


def forward(
    driver: Callable[..., None], part: Callable[..., None], x: Tensor, *levels: Tensor
) -> Tensor:
    """Run a kernel of the input, the levels and the output."""
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
    """Run a kernel that also fills partial sums, and add these up to a gradient of each level."""
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
        units = x.numel() // inner * -(-inner // LENGTH)
        return channels, inner, units, units
    strips = -(-x.numel() // (channels * _ROWS))
    return channels, inner, strips * -(-channels // LENGTH), strips * channels


def _row(level: Tensor, channels: int) -> Array:
    """A level for each channel, in the dtype in which it is compared."""
    return array(level.detach().float().reshape(-1).expand(channels).contiguous())


def _memory(tensor: Tensor, model: Tensor) -> Array:
    """The entries of `tensor` in the order in which dense `model` holds them."""
    if tensor.stride() != model.stride():
        tensor = torch.empty_like(model).copy_(tensor)
    return array(tensor.as_strided((tensor.numel(),), (1,)))


@part
def place(unit: int, size: int, channels: int, inner: int) -> tuple[int, int, int, int, int]:
    """A unit's first entry, its segments' distance, number and length, and its first channel."""
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
    """λ for each entry of a segment."""
    if inner == 1:
        return level[channel : channel + len(room)]
    room[:] = level[channel]
    return room


@summing_part
def store(sums: Array, partial: Array, unit: int, first: int, channels: int, inner: int) -> None:
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
