"""Where a threshold runs in one pass on the CPU: the only place that decides it."""

import torch
from torch import Tensor

from sparsact._thresholds.arguments import Threshold, values_can_be_read
from sparsact.kernels._library import numba_is_installed

SMALLEST = 2**15
"""Entries below which calling the operation costs more than its single pass saves."""

_DTYPES = (torch.float32, torch.bfloat16)
_INSTALLED = numba_is_installed()


def can_be_fused(tensors: tuple[Tensor, ...], *levels: Threshold) -> bool:
    """Whether the compiled operation may stand in for the plain version, which is its reference.

    Args:
        tensors: the input, or the incoming gradient and what was saved: all of one shape.
        levels: λ, or the two bounds; they may vary along one dim.
    """
    return (
        not torch.compiler.is_compiling()  # first, for a comparison of sizes would be guarded
        and _INSTALLED
        and tensors[0].numel() >= SMALLEST
        and tensors[0].dtype in _DTYPES
        and not torch.is_grad_enabled()  # backward is to be differentiated: that needs autograd
        and all(map(values_can_be_read, tensors))
        and _vary_along_one_dim(levels)
    )


def as_tensor(level: Threshold) -> Tensor:
    """A level as the operations take it."""
    return level if isinstance(level, Tensor) else torch.tensor(level, dtype=torch.float32)


def _vary_along_one_dim(levels: tuple[Threshold, ...]) -> bool:
    tensors = [level for level in levels if isinstance(level, Tensor)]
    varying = {
        dim - level.ndim for level in tensors for dim in range(level.ndim) if level.shape[dim] > 1
    }
    return len(varying) <= 1 and all(map(values_can_be_read, tensors))
