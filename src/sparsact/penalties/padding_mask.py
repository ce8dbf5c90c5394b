"""Masks that exclude padding from a penalty."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparsact._common.errors import InputError

Mask = Tensor | Callable[..., Tensor | None]
"""True (or 1) at the positions to keep, or a callable from the model's inputs to such a tensor."""


def check_mask_type(mask: object) -> None:
    """Raise TypeError unless `mask` is a boolean or integer tensor, a callable or None."""
    if isinstance(mask, Tensor):
        if mask.is_floating_point() or mask.is_complex():
            raise TypeError(
                f"mask= must be True or 1 at the positions to keep, got {mask.dtype}; an additive "
                "attention mask cannot be used"
            )
    elif mask is not None and not callable(mask):
        raise TypeError(f"mask= must be a tensor or a callable, got {type(mask).__name__}")


def without_padding(x: Tensor, mask: Tensor, zero_is_free: bool, padding: float = 0.0) -> Tensor:
    """`x` without its padding.

    Args:
        x: (positions…, features…).
        mask: over the leading dims of `x`.
        zero_is_free: replace padding by the value `padding`, which keeps the shape. Otherwise
            return only the kept positions, (kept, features…), a shape that depends on the data.
        padding: a value that adds nothing to the penalty.
    """
    if mask.shape != x.shape[: mask.ndim]:
        raise InputError(
            f"mask= of shape {tuple(mask.shape)} does not fit the leading dims of an activation "
            f"of shape {tuple(x.shape)}"
        )
    mask = mask.to(device=x.device, dtype=torch.bool)
    if not zero_is_free:
        return x[mask]
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x, padding)
