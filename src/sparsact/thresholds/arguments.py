"""Checks on the arguments of a threshold, and the region of the input where it acts."""

import math
import operator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sparsact._common.errors import InputError

Sides = Literal["both", "positive", "negative"]


def accumulate_dtype(x: Tensor) -> torch.dtype:
    """The dtype for comparing `x` with a threshold and for summing it: float32 or float64."""
    double = x.dtype in (torch.float64, torch.complex128)
    return torch.float64 if double else torch.float32


def widen(x: Tensor) -> Tensor:
    """`x` in the dtype in which it is compared with a threshold."""
    return x.to(accumulate_dtype(x))


def narrow(wide: Tensor, x: Tensor) -> Tensor:
    """`wide` in the dtype of `x`, after :func:`widen`.

    Without a conversion this calls nothing: torch 2.11 compiles a function whose result is also an
    intermediate one, as ``Tensor.to`` returns it, with gradients of 0 (pytorch issue 180642).
    """
    return wide if wide.dtype == x.dtype else wide.to(x.dtype)


def widen_like(value: float | Tensor, wide: Tensor) -> Tensor:
    """`value`, such as λ, as a tensor that can be compared with the widened input `wide`."""
    if isinstance(value, Tensor):
        return value.to(wide.dtype)
    return torch.full((), value, dtype=wide.dtype, device=wide.device)


def as_number(value: float | Tensor) -> float:
    """A number or a scalar tensor as a Python number, which has the precision of float64."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def check_input(x: Tensor, function: str) -> None:
    """Raise TypeError unless `x` is a real floating-point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function} expects a tensor, got {type(x).__name__}")
    if x.is_complex():
        raise TypeError(
            f"{function} takes no {x.dtype}, because complex numbers have no sign; apply it to "
            "the modulus, x.abs()"
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{function} expects a floating-point tensor, got {x.dtype}; convert it with .float()"
        )


def check_number(value: object, name: str) -> None:
    """Raise TypeError unless `value` is a real number or a tensor; a truth value is neither."""
    is_number = isinstance(value, (int, float, np.integer, np.floating, Tensor))
    if not is_number or isinstance(value, bool):
        raise TypeError(f"{name}= must be a number or a tensor, got {type(value).__name__}")


def check_threshold(value: object, name: str = "lambd") -> None:
    """Raise unless `value`, a number or a tensor, is finite and not negative.

    This is for values that a constructor is given. The values of a tensor are read in eager mode
    on the CPU only: elsewhere that would synchronise an accelerator or break a trace.
    """
    check_number(value, name)
    if isinstance(value, Tensor):
        _check_real(value, name)
        if values_can_be_read(value) and not bool(((value >= 0) & value.isfinite()).all()):
            raise InputError(f"{name}= must be finite and not negative everywhere")
    elif not 0 <= value < math.inf:  # type: ignore[operator]
        raise InputError(f"{name}= must be finite and not negative, got {value}")


def check_positive(value: float, name: str) -> None:
    """Raise unless the number `value` is positive and finite."""
    check_number(value, name)
    if not 0 < value < math.inf:
        raise InputError(f"{name}= must be positive and finite, got {value}")


def checked_magnitude(value: float | Tensor, name: str) -> float | Tensor:
    """The λ that a function uses: a number, which is checked, or the magnitude of a tensor.

    A function never reads the values of a tensor, so it does the same in eager mode, under
    ``torch.compile``, ``torch.export`` and ``torch.func.vmap``. λ = NaN gives NaN.
    """
    if not isinstance(value, Tensor):
        check_threshold(value, name)
        return float(value)
    _check_real(value, name)
    return magnitude(value)


def magnitude(value: Tensor) -> Tensor:
    """``|value|`` with the slope 1 at 0, where ``torch.abs`` has the slope 0."""
    return torch.where(value < 0, -value, value)


def _check_real(value: Tensor, name: str) -> None:
    if not value.is_floating_point():
        raise TypeError(f"{name}= must be a floating-point tensor, got {value.dtype}")


def as_integer(value: Any, name: str) -> int:
    """`value`, an integer of any type such as NumPy's, as an int; a truth value is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}= must be an integer, got {type(value).__name__}") from None


def values_can_be_read(tensor: Tensor) -> bool:
    """Whether Python can read the values of `tensor` here without a delay or an error."""
    return tensor.device.type == "cpu" and is_plain(tensor)


def is_plain(tensor: Tensor) -> bool:
    """Whether `tensor` is one of torch's own, outside of traces and torch.func."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def broadcast_threshold(value: float | Tensor, x: Tensor, name: str = "lambd") -> float | Tensor:
    """The magnitude of a threshold, whose shape is checked against the input `x`.

    Returns:
        a float, or a tensor whose shape broadcasts to that of `x` without enlarging it.
    """
    level = checked_magnitude(value, name)
    if isinstance(level, Tensor):
        check_broadcast(level, x, name)
    return level


def zero_up_to(level: float | Tensor, size: Tensor, x: Tensor) -> Tensor:
    """`x`, but 0 where the widened `size` of an entry is at most `level`; a NaN level gives NaN."""
    if not isinstance(level, Tensor):
        return torch.where(size <= widen_like(level, size), 0.0, x)
    unknown = level.isnan()
    reach = widen_like(torch.where(unknown, torch.inf, level), size)
    return torch.where(size <= reach, torch.where(unknown, level, 0.0).to(x.dtype), x)


def check_broadcast(tensor: Tensor, x: Tensor, name: str) -> None:
    """Raise unless `tensor` broadcasts to the shape of `x` without enlarging it."""
    if not broadcasts_to(tensor.shape, x.shape):
        raise InputError(
            f"{name}= of shape {tuple(tensor.shape)} does not broadcast to the input's shape "
            f"{tuple(x.shape)}"
        )


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `target` without enlarging it."""
    if len(shape) > len(target):
        return False
    trailing = target[len(target) - len(shape) :]
    return all(size in (1, target_size) for size, target_size in zip(shape, trailing, strict=True))


def restrict(
    x: Tensor, result: Tensor, sides: Sides, mask: Tensor | None, zero_other: bool
) -> Tensor:
    """Keep `result` where the function acts; elsewhere pass `x`, or 0 if `zero_other`."""
    region = acting_region(x, sides, mask)
    if region is None:
        return result
    other = torch.zeros_like(x) if zero_other else x
    return torch.where(region, result, other)


def acting_region(x: Tensor, sides: Sides, mask: Tensor | None) -> Tensor | None:
    """The boolean tensor of entries that `sides` and `mask` select, or None for all entries.

    NaN belongs to both sides, so that it stays NaN.
    """
    if sides == "both":
        region = None
    elif sides == "positive":
        region = ~(x < 0)
    elif sides == "negative":
        region = ~(x > 0)
    else:
        raise InputError(f"sides= must be 'both', 'positive' or 'negative', got {sides!r}")
    if mask is None:
        return region
    check_mask(mask, x)
    return mask if region is None else region & mask


def check_mask(mask: Tensor, x: Tensor) -> None:
    """Raise unless `mask` is a boolean tensor that broadcasts to the shape of `x`."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask= must be a boolean tensor, got {kind}")
    check_broadcast(mask, x, "mask")
