"""The k largest entries of every row of a matrix, by radix selection."""

import triton
import triton.language as tl


@triton.jit
def _scores(scores, bias, columns, features, HAS_BIAS: tl.constexpr, WIDE: tl.constexpr):
    """The entries in a block of columns, plus the bias; −0 becomes 0."""
    value = tl.load(scores + columns, mask=columns < features, other=0.0).to(WIDE)
    if HAS_BIAS:
        value += tl.load(bias + columns, mask=columns < features, other=0.0).to(WIDE)
    return value + 0.0


@triton.jit
def _keys(value, KEY: tl.constexpr, SIGNED: tl.constexpr, BITS: tl.constexpr):
    """Unsigned numbers in the order of the values; every NaN is the greatest."""
    bits = value.to(SIGNED, bitcast=True)
    negative = bits >> (BITS - 1)  # all ones, or zero
    top = tl.full(bits.shape, 1, SIGNED) << (BITS - 1)
    ones = tl.full(bits.shape, -1, SIGNED)
    return tl.where(value != value, ones, bits ^ (negative | top)).to(KEY, bitcast=True)


@triton.jit
def _least_kept(
    scores,
    bias,
    features,
    k,
    HAS_BIAS: tl.constexpr,
    WIDE: tl.constexpr,
    KEY: tl.constexpr,
    SIGNED: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The key of the k-th largest entry, and how many entries with this key are kept."""
    digits = tl.arange(0, 256)
    least = tl.full((), 0, KEY)
    remaining = k
    for step in tl.static_range(BITS // 8):
        counts = tl.zeros((256,), dtype=tl.int32)
        for start in range(0, features, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            value = _scores(scores, bias, columns, features, HAS_BIAS, WIDE)
            key = _keys(value, KEY, SIGNED, BITS)
            digit = ((key >> (BITS - 8 - 8 * step)) & 255).to(tl.int32)
            counted = columns < features
            if step > 0:
                counted = counted & ((key >> (BITS - 8 * step)) == least)
            counts += tl.histogram(digit, 256, mask=counted)
        above = tl.sum(counts, axis=0) - tl.cumsum(counts, axis=0)
        is_it = (above < remaining) & (above + counts >= remaining)
        least = (least << 8) | tl.sum(tl.where(is_it, digits, 0), axis=0).to(KEY)
        remaining -= tl.sum(tl.where(is_it, above, 0), axis=0)
    return least, remaining


@triton.jit
def select_largest(
    scores,
    bias,
    values,
    indices,
    features,
    k,
    HAS_BIAS: tl.constexpr,
    WIDE: tl.constexpr,
    KEY: tl.constexpr,
    SIGNED: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the k largest entries of one row in the order of their columns."""
    row = tl.program_id(0).to(tl.int64)
    scores += row * features
    least, equal_kept = _least_kept(
        scores, bias, features, k, HAS_BIAS, WIDE, KEY, SIGNED, BITS, BLOCK
    )
    kept_before = 0
    equal_before = 0
    for start in range(0, features, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        value = _scores(scores, bias, columns, features, HAS_BIAS, WIDE)
        key = _keys(value, KEY, SIGNED, BITS)
        is_equal = (columns < features) & (key == least)
        equal = equal_before + tl.cumsum(is_equal.to(tl.int32), axis=0)
        kept = (is_equal & (equal <= equal_kept)) | ((columns < features) & (key > least))
        place = kept_before + tl.cumsum(kept.to(tl.int32), axis=0) - 1
        tl.store(values + row * k + place, value, mask=kept)
        tl.store(indices + row * k + place, columns.to(tl.int64), mask=kept)
        kept_before += tl.sum(kept.to(tl.int32), axis=0)
        equal_before += tl.sum(is_equal.to(tl.int32), axis=0)
