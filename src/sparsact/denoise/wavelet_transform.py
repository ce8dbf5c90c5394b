"""The wavelet transform of signals, images and volumes: decimated or stationary."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsact.denoise.filtering import Border, Geometry, analyse_continued, extend, synthesise
from sparsact.denoise.wavelet_filters import FilterBank


@dataclass(frozen=True)
class Bands:
    """The coefficients of a batch of blocks, with everything that the inverse needs.

    Attributes:
        approximation: (…, one size per dim), the low-pass band of the last level.
        details: per level, coarsest first, its bands in the order of :func:`keys`:
            (bands, …, one size per dim).
        bank: the filters.
        sizes: the sizes of each level's input, coarsest first.
        depths: the number of levels along each dim; a dim is not split beyond its own.
        stationary: whether every level kept all samples.
        border: how each level continues its input.
    """

    approximation: Tensor
    details: list[Tensor]
    bank: FilterBank
    sizes: list[tuple[int, ...]]
    depths: tuple[int, ...]
    stationary: bool
    border: Border

    @property
    def ndim(self) -> int:
        """Number of transformed dims, the last ones."""
        return len(self.sizes[0])

    def shifts(self, level: int) -> tuple[int, ...]:
        """The number of shifts whose coefficients alternate along each dim; level 1 is finest."""
        return tuple(2 ** min(level, depth) if self.stationary else 1 for depth in self.depths)

    def is_split(self, level: int) -> tuple[bool, ...]:
        """Whether each dim is split at a level."""
        return tuple(level <= depth for depth in self.depths)

    def with_details(self, details: list[Tensor]) -> "Bands":
        """The same with other detail coefficients."""
        return replace(self, details=details)


def keys(ndim: int, is_split: tuple[bool, ...] | None = None) -> list[str]:
    """The names of the detail bands of a level: per dim ``a`` (low-pass) or ``d`` (high-pass).

    A dim that is not split at this level has ``a`` only.

    Example:
        >>> keys(2)
        ['da', 'ad', 'dd']
        >>> keys(3, (False, True, True))
        ['ada', 'aad', 'add']
    """
    names = [""]
    for split in is_split or (True,) * ndim:
        names = [name + letter for letter in ("ad" if split else "a") for name in names]
    return names[1:]


def decompose(
    x: Tensor,
    bank: FilterBank,
    levels: int | tuple[int, ...],
    ndim: int,
    stationary: bool,
    border: Border = "mirror",
) -> Bands:
    """Transform the last `ndim` dims into bands; each level continues the signal at its borders.

    The decimated coefficients are those of ``pywt.wavedecn`` with ``mode="symmetric"`` (or
    ``"periodic"``, ``"zero"``, ``"constant"``, as `border` says). A stationary level keeps the
    coefficients of both phases of each dim, with the same scale: away from the borders they are
    the decimated coefficients of all ``2^level`` shifts.
    """
    depths = levels if isinstance(levels, tuple) else (levels,) * ndim
    details: list[Tensor] = []
    sizes: list[tuple[int, ...]] = []
    for level in range(max(depths)):
        sizes.append(tuple(x.shape[x.ndim - ndim :]))
        bands = x.unsqueeze(0)
        for dim, depth in zip(range(bands.ndim - ndim, bands.ndim), depths, strict=True):
            if level < depth:
                bands = _split(bands, bank, dim, level, stationary, border)
        x = bands[0]
        details.append(bands[1:])
    return Bands(x, details[::-1], bank, sizes[::-1], depths, stationary, border)


def recompose(bands: Bands) -> Tensor:
    """The inverse of :func:`decompose`, with the original sizes."""
    x, ndim = bands.approximation, bands.ndim
    for position, (details, sizes) in enumerate(zip(bands.details, bands.sizes, strict=True)):
        level = len(bands.details) - 1 - position
        dims = [
            dim
            for dim, split in zip(
                range(x.ndim + 1 - ndim, x.ndim + 1), bands.is_split(level + 1), strict=True
            )
            if split
        ]
        half = 2 ** (len(dims) - 1)
        low, high = torch.cat([x.unsqueeze(0), details[: half - 1]]), details[half - 1 :]
        for dim in reversed(dims):
            joined = _join(low, high, bands, dim, level, sizes[dim - x.ndim - 1])
            half //= 2
            low, high = joined[:half], joined[half:]
        x = joined[0]
    return x


def _split(
    x: Tensor, bank: FilterBank, dim: int, level: int, stationary: bool, border: Border
) -> Tensor:
    length, size = bank.length, x.shape[dim]
    if not stationary:
        coefficients, left = (size + length - 1) // 2, length - 2
        return analyse_continued(
            x, bank.analysis, dim, coefficients, stride=2, left=left, border=border
        )
    step = 2**level
    if border == "periodic":  # the coefficients that a longer band would repeat are left out
        return analyse_continued(x, bank.analysis, dim, size, dilation=step, left=0, border=border)
    reach = (length - 1) * step
    return analyse_continued(
        x, bank.analysis, dim, size + reach, dilation=step, left=reach, border=border
    )


def _join(low: Tensor, high: Tensor, bands: Bands, dim: int, level: int, size: int) -> Tensor:
    length, coefficients = bands.bank.length, low.shape[dim]
    if not bands.stationary:
        geometry = Geometry(dim, 2, 1, length - 2, size, coefficients)
        return synthesise(low, high, bands.bank.synthesis, geometry)
    dilation = 2**level
    reach = (length - 1) * dilation
    if bands.border == "periodic":
        low, high = (extend(band, dim, reach, 0, "periodic") for band in (low, high))
        coefficients += reach
    geometry = Geometry(dim, 1, dilation, reach, size, coefficients)
    return synthesise(low, high, bands.bank.averaging, geometry)
