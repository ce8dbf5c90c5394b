"""What every threshold function does with its arguments: λ, and the region where it acts."""

import math
from typing import Literal

import torch
from torch import Tensor

Sides = Literal["both", "positive", "negative"]
Threshold = float | Tensor


def accumulate_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which `x` is compared with a threshold and in which its sums are taken."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def widen(x: Tensor) -> Tensor:
    """`x` in the dtype in which it is compared with a threshold."""
    return x.to(accumulate_dtype(x))


def level_like(value: Threshold, wide: Tensor) -> Tensor:
    """A threshold as a tensor that can be compared with `wide`."""
    if isinstance(value, Tensor):
        return value.to(wide.dtype)
    return torch.full((), value, dtype=wide.dtype, device=wide.device)


def check_input(x: Tensor, function: str) -> None:
    """Raise TypeError unless `x` is a real floating-point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function} expects a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(
            f"{function} expects a floating-point tensor, got {x.dtype}; convert it with .float()"
        )


def check_threshold(value: object, name: str = "lambd") -> None:
    """Raise unless `value`, a number or a tensor, is a valid threshold: finite and not negative.

    A tensor's values are read in eager mode on the CPU only: the check would synchronise an
    accelerator, and break ``torch.compile``, ``torch.export`` and ``torch.func.vmap``.
    """
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {value.dtype}")
        if values_can_be_read(value) and not bool(((value >= 0) & value.isfinite()).all()):
            raise ValueError(f"{name} must be finite and not negative everywhere")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    else:
        raise TypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")


def values_can_be_read(tensor: Tensor) -> bool:
    """Whether Python may look at the values of `tensor` here without cost or error."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and tensor.device.type == "cpu"
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def holds_everywhere(comparison: Tensor | bool) -> bool:
    """Whether a comparison of two thresholds holds for every entry."""
    return bool(comparison.all()) if isinstance(comparison, Tensor) else comparison


def broadcast_threshold(value: Threshold, x: Tensor, name: str = "lambd") -> Threshold:
    """Check a threshold against the input it is for.

    Returns:
        a float, or a tensor whose shape broadcasts to that of `x` without enlarging it.
    """
    check_threshold(value, name)
    if not isinstance(value, Tensor):
        return float(value)
    check_broadcast(value, x, name)
    return value


def check_broadcast(tensor: Tensor, x: Tensor, name: str) -> None:
    """Raise unless `tensor` broadcasts to the shape of `x` without enlarging it."""
    if not broadcasts_to(tensor.shape, x.shape):
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} does not broadcast to the input's shape "
            f"{tuple(x.shape)}"
        )


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `target` without enlarging it."""
    if len(shape) > len(target):
        return False
    trailing = target[len(target) - len(shape) :]
    return all(size in (1, other) for size, other in zip(shape, trailing, strict=True))


def sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """Sum a gradient over the dims along which `like` was broadcast, in float32 at least."""
    lead = gradient.ndim - like.ndim
    dims = list(range(lead)) + [
        lead + dim for dim, size in enumerate(like.shape) if size == 1 != gradient.shape[lead + dim]
    ]
    if dims:
        gradient = gradient.sum(dims, keepdim=True, dtype=accumulate_dtype(gradient))
    return gradient.reshape(like.shape).to(like.dtype)


def restrict(
    x: Tensor, result: Tensor, sides: Sides, mask: Tensor | None, zero_other: bool
) -> Tensor:
    """Keep `result` where the function acts; elsewhere `x` passes, or 0 if `zero_other`."""
    region = acting_region(x, sides, mask)
    if region is None:
        return result
    other = torch.zeros_like(x) if zero_other else x
    return torch.where(region, result, other)


def acting_region(x: Tensor, sides: Sides, mask: Tensor | None) -> Tensor | None:
    """The boolean tensor of entries that `sides` and `mask` choose, or None for all of them.

    NaN is on every side, so that it comes out as NaN.
    """
    if sides == "both":
        region = None
    elif sides == "positive":
        region = ~(x < 0)
    elif sides == "negative":
        region = ~(x > 0)
    else:
        raise ValueError(f"sides must be 'both', 'positive' or 'negative', got {sides!r}")
    if mask is None:
        return region
    check_mask(mask, x)
    return mask if region is None else region & mask


def check_mask(mask: Tensor, x: Tensor) -> None:
    """Raise unless `mask` is a boolean tensor that broadcasts to the shape of `x`."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean tensor, got {found}")
    check_broadcast(mask, x, "mask")
