"""Products of a few rows with the weights of their active inputs."""

import triton
import triton.language as tl


@triton.jit
def _int4_weights(weight, lines, columns, inside):
    """Weights of 4 bits from words of 32, packed as `sparsact.kernels.reference.int4` says."""
    block = weight + lines + columns // 32 * 5
    place = columns % 32
    head = tl.load(block, mask=inside, other=0)
    word = tl.load(block + 1 + place % 4, mask=inside, other=0)
    code = (word >> (place // 8 * 4 + place % 8 // 4 * 16)) & 15
    scale = (head << 16).to(tl.float32, bitcast=True)
    minimum = (head & -65536).to(tl.float32, bitcast=True)
    return code.to(tl.float32) * scale + minimum


@triton.jit
def sum_active_inputs(
    x,
    level,
    weight,
    sums,
    rows,
    inputs,
    outputs,
    line,  # entries from one input of the weight to the next
    PER_INPUT: tl.constexpr,
    IS_INT4: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Write one of SPLITS partial sums; inputs that are inactive in all rows read no weight."""
    columns = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    row = tl.arange(0, ROWS)
    total = tl.zeros((ROWS, BLOCK_IN, BLOCK_OUT), dtype=tl.float32)
    for start in range(tl.program_id(1) * BLOCK_IN, inputs, SPLITS * BLOCK_IN):
        entry = start + tl.arange(0, BLOCK_IN)
        inside = (row < rows)[:, None] & (entry < inputs)[None, :]
        value = tl.load(x + row[:, None] * inputs + entry[None, :], mask=inside, other=0.0)
        value = value.to(tl.float32)
        bound = tl.load(level + (entry if PER_INPUT else entry * 0), mask=entry < inputs, other=0.0)
        active = inside & (tl.abs(value) > bound[None, :])
        active = active | (inside & ((value != value) | (bound != bound)[None, :]))
        value = tl.where(active, value, 0.0)
        needed = (tl.max(active.to(tl.int32), axis=0) > 0)[:, None] & (columns < outputs)[None, :]
        lines = entry.to(tl.int64)[:, None] * line
        if IS_INT4:
            weights = _int4_weights(weight, lines, columns[None, :], needed)
        else:
            weights = tl.load(weight + lines + columns[None, :], mask=needed, other=0)
        total += value[:, :, None] * weights.to(tl.float32)[None, :, :]
    places = (tl.program_id(1) * rows + row)[:, None] * outputs + columns[None, :]
    stored = (row < rows)[:, None] & (columns < outputs)[None, :]
    tl.store(sums + places, tl.sum(total, axis=1), mask=stored)


@triton.jit
def finish(
    sums,
    scale,
    bias,
    out,
    size,
    outputs,
    HAS_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add the partial sums in order, scale them and add the bias."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in range(SPLITS):
        total += tl.load(sums + split * size + places, mask=inside, other=0.0)
    if HAS_SCALE:
        total *= tl.load(scale + places % outputs, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + places % outputs, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=inside)
