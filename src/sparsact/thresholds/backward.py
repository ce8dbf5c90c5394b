"""Parts of the backward passes: saved tensors, the support, sums over broadcast dims."""

from typing import Any

import torch
from torch import Tensor

from sparsact.thresholds.arguments import accumulate_dtype
from sparsact.thresholds.forward_mode import forward_mode


def keep(ctx: Any, tensor: Tensor, *levels: float | Tensor) -> None:
    """Save for backward `tensor` (the output, where it suffices) and λ or other levels."""
    ctx.numbers = [None if isinstance(level, Tensor) else level for level in levels]
    tensors = [tensor, *[level for level in levels if isinstance(level, Tensor)]]
    ctx.save_for_backward(*tensors)
    if forward_mode():
        ctx.save_for_forward(*tensors)


def kept(ctx: Any) -> tuple[Tensor, list[Any]]:
    """Return what :func:`keep` saved: the tensor, and the levels in their order."""
    tensors = list(ctx.saved_tensors)  # torch 2.8 compiles `tensor, *tensors = …` to a tuple
    tensor = tensors.pop(0)
    return tensor, [tensors.pop(0) if number is None else number for number in ctx.numbers]


def where_nonzero(grad: Tensor, output: Tensor) -> Tensor:
    """`grad` where `output` is not zero (NaN is not zero), else 0.

    torch's backward of hardshrink needs no ``abs``, but drops NaN in vectors of 16 entries or more.
    """
    return torch.ops.aten.threshold_backward(grad, output.abs(), 0.0)  # type: ignore[no-any-return]


def sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """Sum a gradient over the dims along which `like` was broadcast, in float32 at least."""
    lead = gradient.ndim - like.ndim
    dims = list(range(lead)) + [
        lead + dim for dim, size in enumerate(like.shape) if size == 1 != gradient.shape[lead + dim]
    ]
    if dims:
        gradient = gradient.sum(dims, keepdim=True, dtype=accumulate_dtype(gradient))
    return gradient.reshape(like.shape).to(like.dtype)
