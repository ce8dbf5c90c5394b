"""The wavelet transform of signals, images and volumes: decimated or stationary."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from sparsact.denoise.filtering import Geometry, analyse, extend, synthesise
from sparsact.denoise.filters import FilterBank


@dataclass(frozen=True)
class Bands:
    """The coefficients of a batch of blocks, with what is needed to go back.

    Attributes:
        approximation: (…, one size per dim), the low-pass band of the last level.
        details: one dict per level, coarsest first; a key has one letter per dim, ``a``
            (low-pass) or ``d`` (high-pass), as in ``pywt.wavedecn``.
        bank: the filters.
        sizes: the sizes of the signal that each level took apart, coarsest first.
        stationary: every level kept all its samples.
    """

    approximation: Tensor
    details: list[dict[str, Tensor]]
    bank: FilterBank
    sizes: list[tuple[int, ...]]
    stationary: bool

    @property
    def ndim(self) -> int:
        """Number of transformed dims, the last ones."""
        return len(self.sizes[0])

    def items(self) -> Iterator[tuple[int, str, Tensor]]:
        """Every detail band: its level from 1 (finest), its key and its coefficients."""
        for position, level in enumerate(self.details):
            for key, band in level.items():
                yield len(self.details) - position, key, band

    def map(self, change: Callable[[int, str, Tensor], Tensor]) -> "Bands":
        """The same with every detail band changed; `change` takes what :meth:`items` gives."""
        levels = len(self.details)
        return replace(
            self,
            details=[
                {key: change(levels - position, key, band) for key, band in level.items()}
                for position, level in enumerate(self.details)
            ],
        )


def decompose(x: Tensor, bank: FilterBank, levels: int, ndim: int, stationary: bool) -> Bands:
    """Take the last `ndim` dims apart into bands; borders are mirrored at every level.

    Decimated, the coefficients are those of ``pywt.wavedecn`` with ``mode="symmetric"``.
    Stationary, each level keeps the coefficients of both phases of each dim, with the same
    scale: away from the borders they are the decimated coefficients of all ``2^level`` shifts.
    """
    details: list[dict[str, Tensor]] = []
    sizes: list[tuple[int, ...]] = []
    for level in range(levels):
        sizes.append(tuple(x.shape[x.ndim - ndim :]))
        bands = {"": x}
        for dim in range(x.ndim - ndim, x.ndim):
            bands = {
                key + letter: part
                for key, band in bands.items()
                for letter, part in zip(
                    "ad", _split(band, bank, dim, level, stationary), strict=True
                )
            }
        x = bands.pop("a" * ndim)
        details.append(bands)
    return Bands(x, details[::-1], bank, sizes[::-1], stationary)


def recompose(bands: Bands) -> Tensor:
    """The signals that have these coefficients, of the very sizes that were taken apart."""
    x, ndim, levels = bands.approximation, bands.ndim, len(bands.details)
    for position, (details, sizes) in enumerate(zip(bands.details, bands.sizes, strict=True)):
        parts = {"a" * ndim: x, **details}
        level = levels - 1 - position
        for axis in reversed(range(ndim)):
            dim = x.ndim - ndim + axis
            parts = {
                key[:-1]: _join(
                    low, parts[key[:-1] + "d"], bands, dim, level, sizes[axis]
                )
                for key, low in parts.items()
                if key.endswith("a")
            }
        x = parts[""]
    return x


def _split(
    x: Tensor, bank: FilterBank, dim: int, level: int, stationary: bool
) -> tuple[Tensor, Tensor]:
    length, size = bank.length, x.shape[dim]
    if stationary:
        dilation = 2**level
        reach = (length - 1) * dilation
        extended = extend(x, dim, reach, reach)
        geometry = Geometry(dim, 1, dilation, 0, size + 2 * reach, size + reach)
    else:
        extended = extend(x, dim, length - 2, length - 1)
        geometry = Geometry(dim, 2, 1, 0, size + 2 * length - 3, (size + length - 1) // 2)
    return analyse(extended, bank.analysis, geometry)


def _join(low: Tensor, high: Tensor, bands: Bands, dim: int, level: int, size: int) -> Tensor:
    length, coefficients = bands.bank.length, low.shape[dim]
    if not bands.stationary:
        geometry = Geometry(dim, 2, 1, length - 2, size, coefficients)
        return synthesise(low, high, bands.bank.synthesis, geometry)
    dilation = 2**level
    geometry = Geometry(dim, 1, dilation, (length - 1) * dilation, size, coefficients)
    return synthesise(low, high, bands.bank.synthesis, geometry) / 2
