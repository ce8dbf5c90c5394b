"""Leaving padding out of a penalty, and out of what it is divided by."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sparsact.nn.activity import Reduction, divisor

Mask = Tensor | Callable[..., Tensor | None]
"""True (or 1) at the positions to keep, or a callable from the model's inputs to that."""


def check_mask_type(mask: object) -> None:
    """Raise TypeError unless `mask` is a boolean or integer tensor, a callable or None."""
    if isinstance(mask, Tensor):
        if mask.is_floating_point() or mask.is_complex():
            raise TypeError(
                f"mask must hold True or 1 at the positions to keep, got {mask.dtype}; an additive "
                "attention mask is not one"
            )
    elif mask is not None and not callable(mask):
        raise TypeError(f"mask must be a tensor or a callable, got {type(mask).__name__}")


def keep(x: Tensor, mask: Tensor, zero_is_free: bool, padding: float = 0.0) -> Tensor:
    """`x` without its padding.

    Args:
        x: (positions…, features…).
        mask: over the leading dims of `x`.
        zero_is_free: set padding to `padding`, which keeps the shape; otherwise only the kept
            positions are taken, (kept, features…), a shape that ``torch.compile`` cannot know.
        padding: what adds nothing.
    """
    if mask.shape != x.shape[: mask.ndim]:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not fit the leading dims of an activation of "
            f"shape {tuple(x.shape)}"
        )
    mask = mask.to(device=x.device, dtype=torch.bool)
    if not zero_is_free:
        return x[mask]
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x, padding)


def kept_divisor(x: Tensor, mask: Tensor, reduction: Reduction) -> int | Tensor:
    """What the sum over the kept positions of `x` is divided by.

    ``mean`` and ``token_mean`` count the kept entries and positions; at least 1.
    """
    if reduction in ("sum", "batch_mean") or x.numel() == 0:
        return divisor(x, reduction)
    entries = mask.to(device=x.device, dtype=torch.bool).sum() * math.prod(
        list(x.shape[mask.ndim :])
    )
    if reduction == "token_mean":
        entries = entries / x.shape[-1]
    return entries.clamp(min=1)
