"""Thresholds in one pass over memory, forward and backward; see `threshold_levels` for the tiles.

A matrix of `lines` × `width` entries is cut into tiles. The level of an entry belongs to its column
or to its line. Comparisons are in the dtype of the levels. NaN entries and levels propagate as in
the reference.
"""

import triton
import triton.language as tl

SOFT, HARD, JUMP, CLIP = (tl.constexpr(mode) for mode in range(4))
RECTANGLE, TRIANGLE, SIGMOID = (tl.constexpr(window) for window in range(3))


@triton.jit
def _place(tile, width, PER_COLUMN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The lines and columns of a tile, and the number of tiles side by side."""
    across = tl.cdiv(width, COLUMNS)
    lines = (tile // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = (tile % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    return lines, columns, across


@triton.jit
def _level(levels, lines, columns, inside, channels, PER_COLUMN: tl.constexpr):
    """The level of each entry, broadcast over the tile."""
    if PER_COLUMN:
        level = tl.load(levels + columns, mask=columns < channels, other=0.0)[None, :]
    else:
        level = tl.load(levels + lines % channels, mask=inside, other=0.0)[:, None]
    return level


@triton.jit
def _cut_entries(value, low, high, MODE: tl.constexpr):
    """The output for the inputs `value`, in the dtype of the comparison."""
    if MODE != SOFT and MODE != CLIP:
        size = tl.abs(value) if MODE == HARD else value
        result = tl.where(size <= high, 0.0, tl.where(high != high, value + high, value))
    else:
        raised = tl.where((value < low) | (low != low), low, value)
        result = tl.where((raised > high) | (high != high), high, raised)
        if MODE == SOFT:
            result = value - result
    return result


@triton.jit
def forward_tiles(
    x,
    low,
    high,
    out,
    count,
    width,
    channels,
    MODE: tl.constexpr,
    PER_COLUMN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the outputs of one tile."""
    lines, columns, _ = _place(tl.program_id(0), width, PER_COLUMN, ROWS, COLUMNS)
    inside = (lines < count)[:, None] & (columns < width)[None, :]
    places = lines[:, None] * width + columns[None, :]
    upper = _level(high, lines, columns, lines < count, channels, PER_COLUMN)
    lower = -upper
    if MODE == CLIP:
        lower = _level(low, lines, columns, lines < count, channels, PER_COLUMN)
    value = tl.load(x + places, mask=inside, other=0.0).to(upper.dtype)
    result = _cut_entries(value, lower, upper, MODE)
    tl.store(out + places, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _window(distance, bandwidth, WINDOW: tl.constexpr):
    """The straight-through window K(distance)."""
    if WINDOW == RECTANGLE:
        height = tl.where(tl.abs(distance) < bandwidth * 0.5, 1.0, 0.0) / bandwidth
    elif WINDOW == TRIANGLE:
        slope = 1 - tl.abs(distance) / bandwidth
        height = tl.where(slope < 0, 0.0, slope) / bandwidth
    else:
        decay = tl.exp(-tl.abs(distance * (4 / bandwidth)))
        height = decay / ((1 + decay) * (1 + decay)) * (4 / bandwidth)
    return height


@triton.jit
def _signed(value, push):
    """``−sign(value)·push``; a NaN in `push` stays where the sign is 0."""
    return tl.where(value > 0, -push, tl.where(value < 0, push, 0 * push))


@triton.jit
def _pull_back(grad, saved, low, high, bandwidth, MODE: tl.constexpr, WINDOW: tl.constexpr):
    """The gradient of x, and those of the lower and the upper level before they are summed."""
    of_low = grad
    if MODE == SOFT:  # `saved` is the output: its zeros say where the band is
        grad_x = tl.where(saved == 0, 0.0, grad)
        of_high = _signed(saved, grad_x)
    elif MODE == HARD:
        size = tl.abs(saved)
        grad_x = tl.where(size <= high, 0.0, grad)
        of_high = _signed(saved, high * _window(size - high, bandwidth, WINDOW) * grad)
    elif MODE == JUMP:
        grad_x = tl.where(saved <= high, 0.0, grad)
        of_high = -high * _window(saved - high, bandwidth, WINDOW) * grad
    else:
        below, above = saved <= low, saved >= high
        grad_x = tl.where(below | above, 0.0, grad)
        of_low = tl.where(below, grad, 0.0)
        of_high = tl.where(above, grad, 0.0)
    return grad_x, of_low, of_high


@triton.jit
def backward_tiles(
    grad,
    saved,
    low,
    high,
    grad_x,
    low_sums,
    high_sums,
    count,
    width,
    channels,
    bandwidth,
    MODE: tl.constexpr,
    WINDOW: tl.constexpr,
    PER_COLUMN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Write the gradient of x for a strip of tiles, and the sums of the levels' gradients."""
    strip, columns, across = _place(tl.program_id(0), width, PER_COLUMN, 1, COLUMNS)
    strip = tl.program_id(0) // across
    wide = high.dtype.element_ty
    low_total = tl.zeros((ROWS, COLUMNS), dtype=wide)
    high_total = tl.zeros((ROWS, COLUMNS), dtype=wide)
    for step in range(STEPS):
        lines = (strip * STEPS + step).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = (lines < count)[:, None] & (columns < width)[None, :]
        places = lines[:, None] * width + columns[None, :]
        upper = _level(high, lines, columns, lines < count, channels, PER_COLUMN)
        lower = upper
        if MODE == CLIP:
            lower = _level(low, lines, columns, lines < count, channels, PER_COLUMN)
        slope = tl.load(grad + places, mask=inside, other=0.0).to(wide)
        value = tl.load(saved + places, mask=inside, other=0.0).to(wide)
        result, of_low, of_high = _pull_back(slope, value, lower, upper, bandwidth, MODE, WINDOW)
        tl.store(grad_x + places, result.to(grad_x.dtype.element_ty), mask=inside)
        low_total += tl.where(inside, of_low, 0.0)
        high_total += tl.where(inside, of_high, 0.0)
    if PER_COLUMN:
        places = strip.to(tl.int64) * width + columns
        tl.store(high_sums + places, tl.sum(high_total, axis=0), mask=columns < width)
        if MODE == CLIP:
            tl.store(low_sums + places, tl.sum(low_total, axis=0), mask=columns < width)
    else:
        lines = strip.to(tl.int64) * ROWS + tl.arange(0, ROWS)
        places = lines * across + tl.program_id(0) % across
        tl.store(high_sums + places, tl.sum(high_total, axis=1), mask=lines < count)
        if MODE == CLIP:
            tl.store(low_sums + places, tl.sum(low_total, axis=1), mask=lines < count)
