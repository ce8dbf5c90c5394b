"""Rounding a weight to 4 bits."""

import torch
from torch import Tensor

from sparsact.inference.gptq import rounded_in_turn
from sparsact.kernels.reference.int4 import BLOCK, pack, packed_width

# what is cut off at each end of the range between a block's smallest and largest weight
_CUTS = torch.tensor([0.0, 0.04, 0.08, 0.12]).view(-1, 1, 1)
_AT_A_TIME = 1 << 13  # weights, so that temporary tensors of all cuts stay in the cache


def quantise(weight_t: Tensor, input_moments: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Round a weight (in, out) to blocks of 4 bits with the least squared error.

    Each output channel is divided by its root mean square first, because a block holds 32 channels
    of one input. The scale and minimum of a block are searched: a smaller range rounds most weights
    more finely and cuts the largest; for each range, the least-squares scale and minimum follow.

    All weights of a block multiply the same input. So what is known of the inputs scales the error
    of a block as a whole, and does not change its best scale and minimum. But inputs that occur
    together can make up for each other's errors: see :func:`rounded_in_turn`.

    Args:
        weight_t: (in, out), of any float dtype.
        input_moments: (in, in), E[x·xᵀ] of the inputs, for errors that make up for each other.

    Returns:
        the packed rows (in, bytes) uint8, and the factor of each output (out,) float32.
    """
    inputs, outputs = weight_t.shape
    if weight_t.numel() == 0:
        empty = weight_t.new_zeros(inputs, packed_width(outputs), dtype=torch.uint8)
        return empty, torch.ones(outputs, device=weight_t.device)
    total = torch.zeros(outputs, device=weight_t.device)
    step = max(1, _AT_A_TIME // outputs)
    starts = range(0, inputs, step)
    for start in starts:
        total += weight_t[start : start + step].float().square().sum(0)
    scale = (total / inputs).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    if input_moments is not None:
        return rounded_in_turn(weight_t.float() / scale, input_moments, _nearest), scale
    rows = [_nearest(weight_t[start : start + step].float() / scale)[0] for start in starts]
    return torch.cat(rows), scale


def _nearest(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The packed rows that are nearest to rows (n, out) of a weight, and what they stand for."""
    padding = -weight.shape[1] % BLOCK
    # the last weight of a row is repeated, so that padding does not widen its block
    last = weight[:, -1:].expand(-1, padding)
    blocks = torch.cat([weight, last], 1).unflatten(1, (-1, BLOCK))
    low, high = blocks.amin(-1), blocks.amax(-1)
    cut = (high - low) * _CUTS.to(weight.device)
    codes, scale, minimum = _fitted(blocks, low + cut, high - cut)
    best = _error(blocks, codes, scale, minimum).argmin(0, keepdim=True)
    codes = codes.gather(0, best[..., None].expand(-1, -1, -1, BLOCK))[0]
    scale, minimum = scale.gather(0, best)[0], minimum.gather(0, best)[0]
    values = _values(codes, scale, minimum).flatten(1)[:, : weight.shape[1]]
    return pack(codes, scale, minimum), values


def _fitted(blocks: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes for a range, then the least-squares scale and minimum, and codes for these."""
    codes = _codes(blocks, (high - low) / 15, low)
    code_mean, weight_mean = codes.mean(-1), blocks.mean(-1)
    apart = codes - code_mean[..., None]
    variance = apart.square().sum(-1)
    slope = (apart * blocks).sum(-1) / variance.clamp(min=1e-30)
    scale = torch.where(variance > 0, slope, 0.0).bfloat16()
    minimum = (weight_mean - scale.float() * code_mean).bfloat16()
    return _codes(blocks, scale.float(), minimum.float()), scale, minimum


def _codes(blocks: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    step = torch.where(scale > 0, scale, 1.0)[..., None]
    codes = ((blocks - minimum[..., None]) / step).round().clamp(0, 15)
    return torch.where(scale[..., None] > 0, codes, 0.0)


def _error(blocks: Tensor, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """The squared error of each block."""
    return (_values(codes, scale, minimum) - blocks).square().sum(-1)


def _values(codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    return codes * scale.float()[..., None] + minimum.float()[..., None]
