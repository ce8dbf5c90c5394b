"""Products with compressed sparse rows.

Each output is summed in the order of its entries, whatever the block sizes, so its bits do not
depend on the tuning. Nothing outside the operands is read: a row whose offsets or indices are
wrong becomes NaN, because the host cannot be told without waiting for it.
"""

import triton
import triton.language as tl


@triton.jit
def _bounds(offsets, row, entries):
    """First and last entry of a row, both inside; and whether they were."""
    begin, end = tl.load(offsets + row).to(tl.int64), tl.load(offsets + row + 1).to(tl.int64)
    sound = (begin >= 0) & (end >= begin) & (end <= entries)
    return tl.where(sound, begin, 0), tl.where(sound, end, 0), sound


@triton.jit
def sum_entries(
    values,
    offsets,
    indices,
    weight,
    bias,
    out,
    rows,
    entries,
    features,
    width,
    HAS_BIAS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
):
    """Sum the indexed lines of the weight, times their values, for one row and BLOCK columns."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    total = tl.zeros((BLOCK,), dtype=WIDE)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=inside, other=0.0).to(WIDE)
    begin, end, sound = _bounds(offsets, row, entries)
    ends_are_sound = (tl.load(offsets) == 0) & (tl.load(offsets + rows) == entries)
    sound = sound & ends_are_sound
    for start in range(begin, end, AHEAD):
        for step in tl.static_range(AHEAD):  # loads of several lines are on their way at once
            entry = start + step
            here = entry < end
            index = tl.load(indices + entry, mask=here, other=0).to(tl.int64)
            fits = (index >= 0) & (index < features)
            sound = sound & fits
            value = tl.load(values + entry, mask=here, other=0.0).to(WIDE)
            reach = tl.where(here & fits, width, 0)
            line = tl.load(weight + index * width + columns, mask=columns < reach, other=0.0)
            total += value * line.to(WIDE)
    total = tl.where(sound, total, float("nan"))
    tl.store(out + row * width + columns, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def multiply_at_entries(
    left,
    right,
    offsets,
    indices,
    out,
    rows,
    entries,
    features,
    width,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Multiply a line of `left` with every PROGRAMS-th of its indexed lines of `right`."""
    row = tl.program_id(0).to(tl.int64)
    begin, end, sound = _bounds(offsets, row, entries)
    for entry in range(begin + tl.program_id(1), end, PROGRAMS):
        index = tl.load(indices + entry).to(tl.int64)
        fits = sound & (index >= 0) & (index < features)
        total = tl.zeros((BLOCK,), dtype=WIDE)
        for start in range(0, width, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < tl.where(fits, width, 0)
            first = tl.load(left + row * width + columns, mask=inside, other=0.0).to(WIDE)
            second = tl.load(right + index * width + columns, mask=inside, other=0.0).to(WIDE)
            total += first * second
        result = tl.where(fits, tl.sum(total, axis=0), float("nan"))
        tl.store(out + entry, result.to(out.dtype.element_ty))
