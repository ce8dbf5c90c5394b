"""Elementwise kernels with levels that vary along at most one dim: how work is cut and summed.

The cut into units depends on the shapes alone. Each unit has its own partial sum, and these are
added in order, so the bits of a level's gradient do not depend on the number of threads.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, function
from sparsact.kernels.cpu.threads import threads

_ROWS = 64  # rows of a unit if levels vary along memory: its sums are 1/64 of the input's size
_LENGTH = 2048  # entries of a segment at most: its levels, sums and data fit the first cache

CUT = (INTEGER, INTEGER, INTEGER, INTEGER, INTEGER, INTEGER)
"""The types of the numbers with which every kernel here begins, see `_Cut.numbers`."""

_add_up = function("add_partial_sums", *(INTEGER,) * 3, ADDRESS, INTEGER, ADDRESS)


class _Cut(NamedTuple):
    """Work on memory, cut into units."""

    size: int  # entries
    channels: int  # one for each λ
    inner: int  # entries from one channel to the next
    units: int
    sums: int  # partial sums that the units write

    def numbers(self, dtype: torch.dtype) -> tuple[int, ...]:
        """The first arguments of a kernel."""
        cut = (self.units, self.size, self.channels, self.inner)
        return (threads(self.units), *cut, FLOATS[dtype])


def forward(kernel: Callable[..., None], x: Tensor, *levels: Tensor) -> Tensor:
    """Run a kernel that takes the input, the levels and the output."""
    out = torch.empty_like(x)
    if not out.numel():
        return out
    cut = _cut(out, levels)
    tensors = [_like(x, out), *[_row(level, cut.channels) for level in levels], out]
    kernel(*cut.numbers(out.dtype), *[tensor.data_ptr() for tensor in tensors])
    return out


def backward(
    kernel: Callable[..., None],
    grad: Tensor,
    saved: Tensor,
    *levels: Tensor,
    window: tuple[float, ...] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Run a kernel that also writes partial sums; return the gradients of x and the levels."""
    grad_x = torch.empty_like(saved)
    if not grad_x.numel():
        return grad_x, [torch.zeros_like(level) for level in levels]
    cut = _cut(grad_x, levels)
    rows = [_row(level, cut.channels) for level in levels]
    partials = [torch.zeros(cut.sums) for _ in levels]
    tensors = [_like(grad, grad_x), _like(saved, grad_x), *rows, grad_x, *partials]
    kernel(*cut.numbers(grad_x.dtype), *[tensor.data_ptr() for tensor in tensors], *window)
    pairs = zip(levels, partials, strict=True)
    return grad_x, [_total(level, cut, partial) for level, partial in pairs]


def _total(level: Tensor, cut: _Cut, partial: Tensor) -> Tensor:
    """Add the partial sums of each level."""
    total = torch.empty(level.shape, dtype=torch.float64)
    sizes = (len(partial), cut.channels, -(-cut.inner // _LENGTH))
    _add_up(*sizes, partial.data_ptr(), total.numel(), total.data_ptr())
    return total.to(level.dtype)


def _cut(x: Tensor, levels: tuple[Tensor, ...]) -> _Cut:
    """Cut the memory of `x`, in its dense layout."""
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
        units = x.numel() // inner * -(-inner // _LENGTH)
        return _Cut(x.numel(), channels, inner, units, units)
    strips = -(-x.numel() // (channels * _ROWS))
    units = strips * -(-channels // _LENGTH)
    return _Cut(x.numel(), channels, inner, units, strips * channels)


def _row(level: Tensor, channels: int) -> Tensor:
    """Return a level for each channel, in the dtype of the comparison."""
    return level.detach().float().reshape(-1).expand(channels).contiguous()


def _like(tensor: Tensor, model: Tensor) -> Tensor:
    """Return `tensor` in the memory order of the dense tensor `model`."""
    if tensor.stride() == model.stride():
        return tensor
    return torch.empty_like(model).copy_(tensor)
