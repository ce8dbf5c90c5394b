"""The wavelet transform of signals, images and volumes: decimated or stationary."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsact.denoise.filtering import Geometry, analyse_mirrored, synthesise
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
        stationary: whether every level kept all samples.
    """

    approximation: Tensor
    details: list[Tensor]
    bank: FilterBank
    sizes: list[tuple[int, ...]]
    stationary: bool

    @property
    def ndim(self) -> int:
        """Number of transformed dims, the last ones."""
        return len(self.sizes[0])

    def with_details(self, details: list[Tensor]) -> "Bands":
        """The same with other detail coefficients."""
        return replace(self, details=details)


def keys(ndim: int) -> list[str]:
    """The names of the detail bands of a level: per dim ``a`` (low-pass) or ``d`` (high-pass).

    Example:
        >>> keys(2)
        ['da', 'ad', 'dd']
    """
    names = [""]
    for _ in range(ndim):
        names = [name + letter for letter in "ad" for name in names]
    return names[1:]


def decompose(x: Tensor, bank: FilterBank, levels: int, ndim: int, stationary: bool) -> Bands:
    """Transform the last `ndim` dims into bands; borders are mirrored at every level.

    The decimated coefficients are those of ``pywt.wavedecn`` with ``mode="symmetric"``. A
    stationary level keeps the coefficients of both phases of each dim, with the same scale: away
    from the borders they are the decimated coefficients of all ``2^level`` shifts.
    """
    details: list[Tensor] = []
    sizes: list[tuple[int, ...]] = []
    for level in range(levels):
        sizes.append(tuple(x.shape[x.ndim - ndim :]))
        bands = x.unsqueeze(0)
        for dim in range(bands.ndim - ndim, bands.ndim):
            bands = _split(bands, bank, dim, level, stationary)
        x = bands[0]
        details.append(bands[1:])
    return Bands(x, details[::-1], bank, sizes[::-1], stationary)


def recompose(bands: Bands) -> Tensor:
    """The inverse of :func:`decompose`, with the original sizes."""
    x, ndim = bands.approximation, bands.ndim
    for position, (details, sizes) in enumerate(zip(bands.details, bands.sizes, strict=True)):
        level = len(bands.details) - 1 - position
        half = 2 ** (ndim - 1)
        low, high = torch.cat([x.unsqueeze(0), details[: half - 1]]), details[half - 1 :]
        for dim in reversed(range(x.ndim + 1 - ndim, x.ndim + 1)):
            joined = _join(low, high, bands, dim, level, sizes[dim - x.ndim - 1])
            half //= 2
            low, high = joined[:half], joined[half:]
        x = joined[0]
    return x


def _split(x: Tensor, bank: FilterBank, dim: int, level: int, stationary: bool) -> Tensor:
    length, size = bank.length, x.shape[dim]
    if not stationary:
        coefficients = (size + length - 1) // 2
        return analyse_mirrored(x, bank.analysis, dim, coefficients, stride=2, left=length - 2)
    reach = (length - 1) * 2**level
    return analyse_mirrored(x, bank.analysis, dim, size + reach, dilation=2**level, left=reach)


def _join(low: Tensor, high: Tensor, bands: Bands, dim: int, level: int, size: int) -> Tensor:
    length, coefficients = bands.bank.length, low.shape[dim]
    if not bands.stationary:
        geometry = Geometry(dim, 2, 1, length - 2, size, coefficients)
        return synthesise(low, high, bands.bank.synthesis, geometry)
    dilation = 2**level
    geometry = Geometry(dim, 1, dilation, (length - 1) * dilation, size, coefficients)
    return synthesise(low, high, bands.bank.averaging, geometry)
