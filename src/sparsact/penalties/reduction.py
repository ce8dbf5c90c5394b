"""What the sum of a penalty is divided by."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from sparsact._common.errors import InputError

Reduction = Literal["sum", "mean", "batch_mean", "token_mean"]


def check_reduction(reduction: str) -> None:
    """Raise unless `reduction` is the name of a reduction."""
    if reduction not in get_args(Reduction):
        raise InputError(f"reduction= must be one of {get_args(Reduction)}, got {reduction!r}")


def divisor(x: Tensor, reduction: Reduction) -> int:
    """The number that divides the sum of a penalty over `x`; 1 for an empty `x`.

    ``sum``: 1. ``mean``: the number of entries. ``batch_mean``: the size of dim 0, by which
    Keras 3.15 divides an activity regularizer (earlier versions of Keras 3 document this, but do
    not divide). ``token_mean``: the number of positions, that is of every dim but the last.
    """
    if reduction == "sum" or x.ndim == 0 or x.numel() == 0:
        return 1
    if reduction == "mean":
        return x.numel()
    return x.shape[0] if reduction == "batch_mean" else x.numel() // x.shape[-1]


def kept_divisor(x: Tensor, mask: Tensor, reduction: Reduction) -> int | Tensor:
    """The number that divides the sum over the positions of `x` that a mask keeps.

    ``mean`` and ``token_mean`` count the kept entries and positions; the result is at least 1.
    """
    if reduction in ("sum", "batch_mean") or x.numel() == 0:
        return divisor(x, reduction)
    entries = mask.to(device=x.device, dtype=torch.bool).sum() * math.prod(
        list(x.shape[mask.ndim :])
    )
    if reduction == "token_mean":
        entries = entries / x.shape[-1]
    return entries.clamp(min=1)
