"""Where the levels of an elementwise kernel lie, if they vary along at most one dim."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsact._common.errors import InputError


def channels_and_inner(x: Tensor, levels: Sequence[Tensor]) -> tuple[int, int]:
    """The number of levels, and the entries in the memory of `x` from one to the next."""
    shape = levels[0].shape
    for level in levels[1:]:
        shape = torch.broadcast_shapes(shape, level.shape)
    varying = [dim - len(shape) for dim, size in enumerate(shape) if size != 1]
    if len(varying) > 1:
        raise InputError(f"levels may vary along one dim only, got the shape {tuple(shape)}")
    if not varying:
        return 1, x.numel()
    return shape[varying[0]], x.stride(varying[0])


def row(level: Tensor, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a level for each channel, in the dtype of the comparison."""
    return level.detach().to(dtype).reshape(-1).expand(channels).contiguous()


def like(tensor: Tensor, model: Tensor) -> Tensor:
    """Return `tensor` in the memory order of the dense tensor `model`."""
    if tensor.stride() == model.stride():
        return tensor
    return torch.empty_like(model).copy_(tensor)
