"""Rounding a weight to 4 bits."""

import torch
from torch import Tensor

from sparsact.kernels.reference.int4 import BLOCK, pack, packed_width

_SHRINKS = (1.0, 0.92, 0.84, 0.76)  # of the range between a block's smallest and largest weight
_AT_A_TIME = 1 << 15  # weights, so that temporary tensors stay in the cache


def quantise(weight_t: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight (in, out) to blocks of 4 bits with the least squared error.

    Each output channel is divided by its root mean square first, because a block holds 32 channels
    of one input. The scale and minimum of a block are searched: a smaller range rounds most weights
    more finely and cuts the largest; for each range, the least-squares scale and minimum follow.

    All weights of a block multiply the same input. So the second moments of calibration inputs
    would scale the error of a block as a whole, and would not change its best scale and minimum.

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
    rows = [_packed(weight_t[start : start + step].float() / scale) for start in starts]
    return torch.cat(rows), scale


def _packed(weight: Tensor) -> Tensor:
    padding = -weight.shape[1] % BLOCK
    # the last weight of a row is repeated, so that padding does not widen its block
    last = weight[:, -1:].expand(-1, padding)
    blocks = torch.cat([weight, last], 1).unflatten(1, (-1, BLOCK))
    low, high = blocks.amin(-1), blocks.amax(-1)
    best = _fitted(blocks, low, high)
    for shrink in _SHRINKS[1:]:
        cut = (1 - shrink) / 2 * (high - low)
        candidate = _fitted(blocks, low + cut, high - cut)
        better = _error(blocks, *candidate) < _error(blocks, *best)
        best = (
            torch.where(better[..., None], candidate[0], best[0]),
            torch.where(better, candidate[1], best[1]),
            torch.where(better, candidate[2], best[2]),
        )
    return pack(*best)


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
    rounded = codes * scale.float()[..., None] + minimum.float()[..., None]
    return (rounded - blocks).square().sum(-1)
