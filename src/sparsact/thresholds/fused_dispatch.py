"""The decision where a threshold runs as one compiled pass, on the CPU or a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sparsact.kernels.cpu import library
from sparsact.kernels.triton import support
from sparsact.thresholds.arguments import is_plain
from sparsact.thresholds.forward_mode import forward_mode

SMALLEST_FUSED = 2**17
"""Number of entries from which the compiled operations run by default.

On smaller inputs, calling softshrink's operation costs more than it saves. Measured on two cores;
those of hardshrink and clip save more, and would pay from 2¹⁵ entries on. On a GPU the same number
decides; it was not measured there.
"""

_smallest: float = SMALLEST_FUSED
_DTYPES = (torch.float32, torch.bfloat16)


@contextmanager
def fuse_from(entries: float) -> Iterator[None]:
    """Run the compiled operations on inputs of at least `entries` entries, in this block.

    0 uses them wherever one exists, ``math.inf`` never.
    """
    global _smallest
    before, _smallest = _smallest, entries
    try:
        yield
    finally:
        _smallest = before


def forward_is_fused(x: Tensor, *levels: float | Tensor) -> bool:
    """Whether the compiled operation replaces the plain forward, which is its reference.

    Not under ``torch.compile``, which fuses the plain version with its neighbours.
    """
    if torch.compiler.is_compiling() or not (_fits(x, levels) and _are_plain(x, *levels)):
        return False
    if x.is_cuda:
        return True
    # the compiled operations of the CPU do not propagate a NaN level
    return not any(bool(level.isnan().any()) for level in levels if isinstance(level, Tensor))


def backward_is_fused(grad: Tensor, saved: Tensor, *levels: float | Tensor) -> bool:
    """Whether the compiled operation replaces the plain backward, which is its reference.

    Also under ``torch.compile``: for the gradient of one λ per channel, inductor walks down the
    columns, and it takes a second pass for the gradient of the input.
    """
    if not _fits(saved, levels):
        return False
    if torch.compiler.is_compiling():
        return saved.device.type == "cpu" and not torch.compiler.is_exporting()
    # gradients are enabled if backward is to be differentiated itself; the operation cannot be
    differentiated = torch.is_grad_enabled() or forward_mode()
    return not differentiated and _are_plain(grad, saved, *levels)


def as_tensor(level: float | Tensor, x: Tensor) -> Tensor:
    """`level` in the form that the operations take, without a copy from the host."""
    if isinstance(level, Tensor):
        return level
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.full((), level, dtype=dtype, device=x.device)


def _fits(x: Tensor, levels: tuple[float | Tensor, ...]) -> bool:
    """Whether there is a kernel for the dtype and the levels, and enough work for it."""
    return (
        x.numel() >= _smallest
        and _vary_along_one_dim([level for level in levels if isinstance(level, Tensor)])
        and _has_kernel(x)
    )


def _has_kernel(x: Tensor) -> bool:
    if x.is_cuda:  # torch.compile writes Triton of its own, also for the sums of λ's gradient
        return not torch.compiler.is_compiling() and support.is_usable(x.device, x.dtype)
    return x.device.type == "cpu" and x.dtype in _DTYPES and library.is_built()


def _are_plain(*values: float | Tensor) -> bool:
    """Whether all are on one device, which the operations need, and ordinary."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return all(is_plain(t) and t.device == tensors[0].device for t in tensors)


def _vary_along_one_dim(levels: list[Tensor]) -> bool:
    varying = {
        dim - level.ndim for level in levels for dim in range(level.ndim) if level.shape[dim] != 1
    }
    return len(varying) <= 1
