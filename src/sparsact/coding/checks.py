"""What arguments of every function of sparse coding must be."""

import math
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer


def check_tensor(value: Any, name: str) -> None:
    """Raise InputError unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name}= must be a tensor, got {type(value).__name__}: convert it by torch.as_tensor"
        )


def check_finite(values: Tensor, name: str) -> None:
    """Raise InputError unless all entries are finite; a finite sum says so without a copy."""
    values = values.detach()
    if not bool(values.sum().isfinite()) and not bool(values.isfinite().all()):
        raise InputError(f"{name}= holds NaN or infinite values")


def check_squares(values: Tensor, name: str) -> None:
    """Raise InputError unless the entries are finite and the dtype holds their squares."""
    check_finite(values, name)
    size = float(torch.linalg.vector_norm(values.detach()))
    smallest = math.sqrt(torch.finfo(torch.promote_types(values.dtype, torch.float32)).tiny)
    if bool(values.any()) and not smallest <= size < math.inf:
        raise InputError(
            f"{name}= has entries up to {float(values.abs().max()):.2g}, whose squares do not fit "
            f"{values.dtype}: multiply it, and what is in the same unit, by a number"
        )


def check_count(value: Any, name: str) -> None:
    """Raise InputError unless `value` is an integer of at least 1."""
    try:
        count = as_integer(value, name)
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"{name}= must be at least 1 and an integer, got {value}")


def check_level(value: float, name: str) -> None:
    """Raise InputError unless `value` is finite and not negative."""
    if not 0 <= value < math.inf:
        raise InputError(f"{name}= must be finite and not negative, got {value}")


def check_weights_of_steps(atoms: Tensor) -> None:
    """Raise InputError unless atoms give an unfolded network weights and a step size."""
    if not atoms.dtype.is_floating_point and not atoms.is_complex():
        raise InputError(f"dictionary= must be floating point or complex, got {atoms.dtype}")
    check_squares(atoms, "dictionary")
    if not bool(torch.any(atoms)):
        raise InputError("dictionary= holds zeros only: no step size fits it")
