"""Values that are missing, because they are masked or NaN, and their replacement by neighbours."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import check_mask, values_can_be_read

SMOOTHINGS = 8


def missing_values(x: Tensor, mask: Tensor | None) -> Tensor | None:
    """Where `x` is NaN or `mask` is False, as a boolean tensor, or None if nothing is missing.

    NaN is found in eager mode on the CPU only: elsewhere the check would stop an accelerator.

    Raises:
        InputError: a value that is not masked is infinite, or so large that squares overflow; or
            `mask` does not broadcast to `x`.
    """
    missing = None
    if mask is not None:
        check_mask(mask, x)
        if not values_can_be_read(mask) or not bool(mask.all()):
            missing = ~mask.to(x.device).expand(x.shape)
    if not values_can_be_read(x) or squares_fit(x):
        return missing
    unknown = x.isnan()
    missing = unknown if missing is None else missing | unknown
    if bool((x.isinf() & ~missing).any()):
        raise InputError("x has infinite entries; exclude them with mask=")
    known = x.detach().masked_fill(missing, 0)
    if not squares_fit(known):
        raise InputError(
            f"x has values up to {float(known.abs().max()):.2g}, whose squares overflow {x.dtype}: "
            "exclude a fill value with mask=, or divide x by a number"
        )
    return missing if bool(missing.any()) else None


def squares_fit(x: Tensor) -> bool:
    """Whether the sum of squares is finite, which also says that no entry is NaN or infinite."""
    return bool(torch.linalg.vector_norm(x.detach()).isfinite())


def fill(x: Tensor, missing: Tensor, ndim: int) -> Tensor:
    """Replace the missing values of each block (the last `ndim` dims) from their neighbours.

    A value is the mean of the known ones in the smallest cell of a pyramid (2, 4, 8, … samples
    wide) that has any. Then missing values are averaged with their direct neighbours a few times,
    which smooths the edges of the cells. A block without any known value becomes 0.
    """
    filled = _from_cells(torch.where(missing, 0.0, x), (~missing).to(x.dtype), ndim)
    for _ in range(SMOOTHINGS):
        filled = torch.where(missing, _mean_of_neighbours(filled, ndim), x)
    return filled


def _from_cells(x: Tensor, known: Tensor, ndim: int) -> Tensor:
    """`x` where `known` is 1, else the mean of the known values in the smallest cell with any."""
    sizes = x.shape[x.ndim - ndim :]
    if max(sizes) == 1:
        return x
    total, count = _summed(x * known, ndim), _summed(known, ndim)
    coarse = _from_cells(total / count.clamp(min=1), (count > 0).to(x.dtype), ndim)
    for dim, size in zip(range(-ndim, 0), sizes, strict=True):
        coarse = coarse.repeat_interleave(2, dim).narrow(dim, 0, size)
    return torch.where(known > 0, x, coarse)


def _summed(x: Tensor, ndim: int) -> Tensor:
    """The sums over cells of 2 samples along each of the last dims."""
    for dim in range(-ndim, 0):
        if x.shape[dim] % 2:
            x = pad(x, [0, 0] * (-dim - 1) + [0, 1])
        x = x.unflatten(dim, (-1, 2)).sum(dim)
    return x


def _mean_of_neighbours(x: Tensor, ndim: int) -> Tensor:
    total = torch.zeros_like(x)
    for dim in range(-ndim, 0):
        before, after = neighbours(x, dim)
        total = total + before + after
    return total / (2 * ndim)


def neighbours(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The neighbours before and after each sample; at an end, the sample itself."""
    size = x.shape[dim]
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)], dim)
    return before, after
