"""Weights of 4 bits: how they are packed, and what they stand for.

A weight is (in, out). Its row holds the weights of one input, in blocks of 32 outputs, the last one
padded. A block is 20 bytes: a scale and a minimum in bfloat16, then four little-endian words of 32
bits. The codes (0 to 15) of the outputs 8k + j and 8k + 4 + j are the bits from 4k and from 16 + 4k
of word j. A weight is ``scale · code + minimum``, times the factor of its output channel, which is
``scale=`` of `sparsact.kernels.gather_linear`. A token that skips an input skips the block scales
of that input too. It reads 5 bits a weight.
"""

import torch
from torch import Tensor

BLOCK = 32
"""Outputs in a block."""
BLOCK_BYTES = 20


def packed_width(outputs: int) -> int:
    """Bytes of a packed row."""
    return -(-outputs // BLOCK) * BLOCK_BYTES


def pack(codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """Pack codes.

    Args:
        codes: (in, blocks, 32), whole numbers from 0 to 15 in any dtype.
        scale: (in, blocks), bfloat16.
        minimum: (in, blocks), bfloat16.

    Returns:
        (in, 20·blocks) uint8.
    """
    # (in, blocks, j, half, k): the codes of one word side by side
    by_word = codes.to(torch.uint8).unflatten(-1, (4, 2, 4)).movedim(-3, -1).movedim(-2, -3)
    by_word = by_word.flatten(2)
    halves = by_word[..., ::2] | by_word[..., 1::2] << 4
    scales = torch.stack([scale, minimum], -1).contiguous().view(torch.uint8)
    return torch.cat([scales, halves], -1).flatten(1).contiguous()


def unpack(packed: Tensor, outputs: int) -> Tensor:
    """The weight (in, outputs) that packed rows (in, bytes) stand for, in float32."""
    parts = packed.view(len(packed), packed.shape[1] // BLOCK_BYTES, BLOCK_BYTES)
    scales = parts[..., :4].contiguous().view(torch.bfloat16).float()
    by_word = torch.stack([parts[..., 4:] & 15, parts[..., 4:] >> 4], -1).flatten(2)
    codes = by_word.unflatten(-1, (4, 2, 4)).movedim(-3, -1).movedim(-2, -3).flatten(2).float()
    weight_t: Tensor = codes * scales[..., :1] + scales[..., 1:]
    return weight_t.flatten(1)[:, :outputs]


def widened(weight_t: Tensor, scale: Tensor | None) -> Tensor:
    """The entries (in, out) of a stored weight in float32, before its output scales."""
    if weight_t.dtype == torch.uint8:
        return unpack(weight_t, outputs(weight_t, scale))
    return weight_t.float()


def outputs(weight_t: Tensor, scale: Tensor | None) -> int:
    """The number of outputs of a stored weight; the scale says it where rows are packed."""
    if weight_t.dtype == torch.uint8 and scale is not None:
        return scale.numel()
    return weight_t.shape[1]
