"""What a threshold's autograd function keeps for backward: one tensor, and its levels."""

from typing import Any

from torch import Tensor

from sparsact._thresholds.arguments import Threshold


def keep(ctx: Any, tensor: Tensor, *levels: Threshold) -> None:
    """Save `tensor` (the output, where that suffices) and the levels, floats or tensors."""
    ctx.numbers = [None if isinstance(level, Tensor) else level for level in levels]
    ctx.save_for_backward(tensor, *[level for level in levels if isinstance(level, Tensor)])


def kept(ctx: Any) -> tuple[Tensor, list[Any]]:
    """What :func:`keep` saved: the tensor, and the levels in their order."""
    tensors = list(ctx.saved_tensors)  # torch 2.8 compiles `tensor, *tensors = …` to a tuple
    tensor = tensors.pop(0)
    return tensor, [tensors.pop(0) if number is None else number for number in ctx.numbers]
