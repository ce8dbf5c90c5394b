"""What several operations require of their operands."""

import math

import torch
from torch import Tensor

from sparsact._common.errors import InputError


def check_matrix(tensor: Tensor, name: str) -> None:
    """Raise unless `tensor` is a dense floating-point matrix."""
    if tensor.layout != torch.strided:
        raise InputError(f"{name} must be a dense tensor, got the layout {tensor.layout}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
    if tensor.ndim != 2:
        raise InputError(f"{name} must have 2 dims, got the shape {tuple(tensor.shape)}")


def check_dense(tensor: Tensor, name: str, like: Tensor, shape: tuple[int, ...] | None) -> None:
    """Raise unless `tensor` is dense and has the shape and the dtype and device of `like`.

    A shape of None allows any matrix.
    """
    if tensor.dtype != like.dtype:
        raise TypeError(
            f"{name} is {tensor.dtype}, the other operands {like.dtype}: they must be equal"
        )
    if tensor.device != like.device:
        raise InputError(f"{name} is on {tensor.device}, the other operands on {like.device}")
    if tensor.layout != torch.strided:
        raise InputError(f"{name} must be a dense tensor, got the layout {tensor.layout}")
    if shape is None and tensor.ndim != 2:
        raise InputError(f"{name} must have 2 dims, got the shape {tuple(tensor.shape)}")
    if shape is not None and tensor.shape != shape:
        raise InputError(f"{name} must be of shape {tuple(shape)}, got {tuple(tensor.shape)}")


def check_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless these are the operands of a linear layer on a matrix `x`."""
    check_matrix(x, "x")
    check_matrix(weight, "weight")
    check_dense(weight, "weight", x, (weight.shape[0], x.shape[1]))
    if bias is not None:
        check_dense(bias, "bias", x, weight.shape[:1])


def check_level(threshold: float, *, signed: bool = False) -> None:
    """Raise unless a number can be a threshold; only a signed one may be negative."""
    if not math.isfinite(threshold) or (threshold < 0 and not signed):
        least = "" if signed else " and at least 0"
        raise InputError(f"threshold must be finite{least}, got {threshold}")


def per_column(threshold: float | Tensor, x: Tensor, *, signed: bool = False) -> Tensor:
    """λ for each column of `x`: (columns,), in the dtype of the comparison."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not isinstance(threshold, Tensor):
        check_level(threshold, signed=signed)
        return torch.full((x.shape[-1],), threshold, dtype=dtype, device=x.device)
    if not threshold.is_floating_point():
        raise TypeError(f"threshold must be floating point, got {threshold.dtype}")
    if threshold.device != x.device:
        raise InputError(f"threshold is on {threshold.device}, the input on {x.device}")
    if threshold.shape not in ((), x.shape[-1:]):
        raise InputError(
            f"threshold must be a number or of shape ({x.shape[-1]},), one for each column; got "
            f"{tuple(threshold.shape)}"
        )
    return threshold.detach().to(dtype).expand(x.shape[-1]).contiguous()
