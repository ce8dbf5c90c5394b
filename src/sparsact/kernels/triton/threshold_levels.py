"""Elementwise kernels with levels that vary along at most one dim: their tiles and their sums.

The tiles depend on the shapes alone, and partial sums are added in a fixed order, so the bits of a
level's gradient are the same in every run on one device.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsact.kernels.level_layout import channels_and_inner, like, row
from sparsact.kernels.reference.csr_reference import summed_in
from sparsact.kernels.triton.threshold_kernels import backward_tiles, forward_tiles

_TILE = 2048  # entries
_ACROSS = 128  # columns of a tile whose levels vary along memory
_BACKWARD_WARPS = 8  # with 4, clipping needs more registers than a thread has
_STEPS = 8  # tiles under each other that share sums: these are then 1/128 of the input's size


class _Tiles(NamedTuple):
    """A matrix cut into tiles."""

    lines: int
    width: int
    channels: int
    per_column: bool  # whether a level belongs to a column, or to a line
    rows: int  # of a tile
    columns: int

    def programs(self, steps: int) -> int:
        """Programs that process `steps` tiles each."""
        down = triton.cdiv(self.lines, self.rows * steps)
        return int(down * triton.cdiv(self.width, self.columns))

    def constants(self) -> dict[str, int]:
        """What a kernel is compiled for."""
        return {"PER_COLUMN": self.per_column, "ROWS": self.rows, "COLUMNS": self.columns}


def _tiles(x: Tensor, levels: tuple[Tensor, ...]) -> _Tiles:
    """Cut the memory of the dense tensor `x`."""
    channels, inner = channels_and_inner(x, levels)
    per_column = inner == 1 and channels > 1
    width = channels if per_column else inner
    columns = min(triton.next_power_of_2(width), _ACROSS if per_column else _TILE)
    lines = x.numel() // width
    return _Tiles(lines, width, channels, per_column, _TILE // columns, columns)


def forward(mode: tl.constexpr, x: Tensor, *levels: Tensor) -> Tensor:
    """Apply a threshold; `levels` are λ, or the lower and the upper bound."""
    out = torch.empty_like(x)
    if not out.numel():
        return out
    tiles = _tiles(out, levels)
    rows = [row(level, tiles.channels, summed_in(x)) for level in levels]
    forward_tiles[(tiles.programs(1),)](
        *(like(x, out), rows[0], rows[-1], out),
        *(tiles.lines, tiles.width, tiles.channels),
        MODE=mode.value,
        **tiles.constants(),
        enable_fp_fusion=True,
    )
    return out


def backward(
    mode: tl.constexpr,
    grad: Tensor,
    saved: Tensor,
    *levels: Tensor,
    bandwidth: float = 1.0,
    window: int = 0,
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradients of x and the levels; `saved` is x, or the output for `SOFT`."""
    grad_x = torch.empty_like(saved)
    if not grad_x.numel():
        return grad_x, [torch.zeros_like(level) for level in levels]
    tiles, wide = _tiles(grad_x, levels), summed_in(saved)
    steps = _STEPS if tiles.per_column else 1
    rows = [row(level, tiles.channels, wide) for level in levels]
    if tiles.per_column:
        shape = (triton.cdiv(tiles.lines, tiles.rows * steps), tiles.channels, 1)
    else:
        across = triton.cdiv(tiles.width, tiles.columns)
        shape = (tiles.lines // tiles.channels, tiles.channels, across)
    sums = [saved.new_empty(shape, dtype=wide) for _ in levels]
    backward_tiles[(tiles.programs(steps),)](
        *(like(grad, grad_x), like(saved, grad_x), rows[0], rows[-1]),
        *(grad_x, sums[0], sums[-1]),
        *(tiles.lines, tiles.width, tiles.channels, bandwidth),
        MODE=mode.value,
        WINDOW=window,
        STEPS=steps,
        **tiles.constants(),
        num_warps=_BACKWARD_WARPS,
        enable_fp_fusion=True,
    )
    return grad_x, [_total(*pair) for pair in zip(levels, sums, strict=True)]


def _total(level: Tensor, sums: Tensor) -> Tensor:
    """Add the partial sums (strips, channels, across) of a level."""
    dims = (0, 1, 2) if level.numel() == 1 else (0, 2)
    return sums.sum(dims, dtype=torch.float64).to(level.dtype).reshape(level.shape)
