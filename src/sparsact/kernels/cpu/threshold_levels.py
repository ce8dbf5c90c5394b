"""Elementwise kernels with levels that vary along at most one dim: how work is cut and summed.

The cut into units depends on the shapes alone. Each unit has its own partial sum, and these are
added in order, so the bits of a level's gradient do not depend on the number of threads.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, function
from sparsact.kernels.cpu.threads import threads
from sparsact.kernels.level_layout import channels_and_inner, like, row

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
    tensors = [like(x, out), *[row(level, cut.channels) for level in levels], out]
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
    rows = [row(level, cut.channels) for level in levels]
    partials = [torch.zeros(cut.sums) for _ in levels]
    tensors = [like(grad, grad_x), like(saved, grad_x), *rows, grad_x, *partials]
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
    channels, inner = channels_and_inner(x, levels)
    if inner > 1:
        units = x.numel() // inner * -(-inner // _LENGTH)
        return _Cut(x.numel(), channels, inner, units, units)
    strips = -(-x.numel() // (channels * _ROWS))
    units = strips * -(-channels // _LENGTH)
    return _Cut(x.numel(), channels, inner, units, strips * channels)
