"""Where a threshold runs in one pass on the CPU: the only place that decides it."""

import torch
from torch import Tensor

from sparsact._thresholds.arguments import Threshold, values_can_be_read
from sparsact.kernels.definition import numba_is_installed

SMALLEST = 2**17
"""Entries from which the operations run: below, calling softshrink's costs more than it saves.

Measured on two cores; those of hardshrink and clip save more, and would pay from 2¹⁵ on.
"""

_DTYPES = (torch.float32, torch.bfloat16)
_INSTALLED = numba_is_installed()


def forward_is_fused(x: Tensor, *levels: Threshold) -> bool:
    """Whether the compiled operation stands in for the plain forward, which is its reference.

    Not under ``torch.compile``, which fuses the plain version with its neighbours.
    """
    return not torch.compiler.is_compiling() and _fits(x, levels) and _are_plain(x, *levels)


def backward_is_fused(grad: Tensor, saved: Tensor, *levels: Threshold) -> bool:
    """Whether the compiled operation stands in for the plain backward, which is its reference.

    Also under ``torch.compile``: inductor walks down the columns for the gradient of a λ per
    channel, and takes another pass for that of the input.
    """
    if not _fits(saved, levels):
        return False
    if torch.compiler.is_compiling():
        return saved.device.type == "cpu" and not torch.compiler.is_exporting()
    # with gradients enabled it is to be differentiated itself, which the operation is not
    return not torch.is_grad_enabled() and _are_plain(grad, saved, *levels)


def as_tensor(level: Threshold) -> Tensor:
    """A level as the operations take it."""
    return level if isinstance(level, Tensor) else torch.tensor(level, dtype=torch.float32)


def _fits(x: Tensor, levels: tuple[Threshold, ...]) -> bool:
    """Whether there is a kernel for the dtype and the levels, and enough work for it."""
    return (
        _INSTALLED
        and x.dtype in _DTYPES
        and _vary_along_one_dim([level for level in levels if isinstance(level, Tensor)])
        and x.numel() >= SMALLEST
    )


def _are_plain(*values: Threshold) -> bool:
    return all(values_can_be_read(value) for value in values if isinstance(value, Tensor))


def _vary_along_one_dim(levels: list[Tensor]) -> bool:
    varying = {
        dim - level.ndim for level in levels for dim in range(level.ndim) if level.shape[dim] != 1
    }
    return len(varying) <= 1
