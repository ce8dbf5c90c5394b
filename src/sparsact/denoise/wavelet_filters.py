"""The filters of a wavelet: PyWavelets' coefficients as tuples for the transform."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsact._common.errors import InputError, suggestion
from sparsact._common.extras import require
from sparsact.thresholds.arguments import as_integer

if TYPE_CHECKING:
    import pywt

Taps = tuple[float, ...]
Levels = int | tuple[int, ...] | None

# The default depth is 3 less than the deepest, but at least this if the block is large enough: for
# signals, and for images and volumes. Deeper transforms cost more time and gain up to 0.04 dB.
LEAST_DEPTHS = (7, 4)
# for rules whose λ grows with the number of samples, which lose 1 dB by one level too many
LEAST_DEPTHS_OF_LARGE_THRESHOLDS = (5, 2)


@dataclass(frozen=True)
class FilterBank:
    """The four filters of a discrete wavelet, all of one even length.

    Attributes:
        name: as PyWavelets spells it.
        analysis: low-pass and high-pass, in the order in which they meet the signal.
        synthesis: low-pass and high-pass.
    """

    name: str
    analysis: tuple[Taps, Taps]
    synthesis: tuple[Taps, Taps]

    @property
    def length(self) -> int:
        """Number of taps of each filter."""
        return len(self.analysis[0])

    @functools.cached_property
    def averaging(self) -> tuple[Taps, Taps]:
        """The synthesis filters, halved to give the mean of both phases."""
        low, high = (tuple(tap / 2 for tap in taps) for taps in self.synthesis)
        return low, high

    @functools.cached_property
    def squared(self) -> "FilterBank":
        """The bank that turns variances of samples into variances of coefficients."""
        low, high = (tuple(tap * tap for tap in taps) for taps in self.analysis)
        return FilterBank(self.name, (low, high), self.synthesis)

    @functools.cached_property
    def box(self) -> "FilterBank":
        """The bank whose bands all hold the mean over the samples that a coefficient uses."""
        taps = (1 / self.length,) * self.length
        return FilterBank(self.name, (taps, taps), self.synthesis)

    def max_levels(self, sizes: tuple[int, ...]) -> int:
        """The largest number of levels for blocks of these sizes; 0 if the filter is larger.

        It is ``⌊log2(size / (taps − 1))⌋`` for the smallest size: beyond that, every coefficient
        would depend on the border. One level is allowed from ``size = taps`` on.
        """
        smallest = min(sizes)
        if smallest < self.length:
            return 0
        return max((smallest // (self.length - 1)).bit_length() - 1, 1)

    def check_sizes(self, sizes: tuple[int, ...]) -> None:
        """Raise InputError if a block of these sizes is smaller than the filter."""
        if self.max_levels(sizes) == 0:
            shape = "×".join(map(str, sizes))
            raise InputError(
                f"{shape} is smaller than the filter of {self.name}, which needs "
                f"{self.length} samples along each dim; choose a shorter one, such as 'haar'"
            )

    def depths(
        self,
        sizes: tuple[int, ...],
        levels: Levels = None,
        large_thresholds: bool = False,
    ) -> tuple[int, ...]:
        """The number of levels along each dim: `levels` after a check, or by default by its size.

        Example:
            >>> filter_bank("db2").depths((512, 64))
            (4, 4)
        """
        if isinstance(levels, tuple):
            if len(levels) != len(sizes):
                raise InputError(
                    f"levels={levels} must have one entry for each of {len(sizes)} dims"
                )
            for size, depth in zip(sizes, levels, strict=True):
                self.check_levels((size,), as_integer(depth, "levels"))
            return levels
        if levels is not None:
            self.check_levels(sizes, as_integer(levels, "levels"))
            return (int(levels),) * len(sizes)
        self.check_sizes(sizes)
        if large_thresholds:
            sizes = (min(sizes),) * len(sizes)
        of_signals, of_images = (
            LEAST_DEPTHS_OF_LARGE_THRESHOLDS if large_thresholds else LEAST_DEPTHS
        )
        least = of_signals if len(sizes) == 1 else of_images
        deepest = [self.max_levels((size,)) for size in sizes]
        return tuple(max(depth - 3, min(depth, least)) for depth in deepest)

    def check_levels(self, sizes: tuple[int, ...], levels: int) -> None:
        """Raise InputError if so many levels are not possible for blocks of these sizes."""
        self.check_sizes(sizes)
        deepest = self.max_levels(sizes)
        if not 1 <= levels <= deepest:
            raise InputError(
                f"levels={levels} must be between 1 and {deepest} for {self.name} and a block "
                f"of {'×'.join(map(str, sizes))}"
            )


def filter_bank(wavelet: "str | pywt.Wavelet") -> FilterBank:
    """The filters of a discrete wavelet of PyWavelets.

    Raises:
        ImportError: PyWavelets is not installed (extra ``denoise``).
        InputError: there is no such discrete wavelet.

    Example:
        >>> filter_bank("haar").length
        2
    """
    if isinstance(wavelet, str):
        return _named_bank(wavelet)
    if not isinstance(wavelet, require("pywt", "denoise").Wavelet):
        raise TypeError(f"wavelet must be a name or a pywt.Wavelet, got {type(wavelet).__name__}")
    return _bank(wavelet)


@functools.cache
def _named_bank(name: str) -> FilterBank:
    pywt = require("pywt", "denoise")
    names = pywt.wavelist(kind="discrete")
    if name.lower() not in names and name.lower() not in pywt.families():
        hint = suggestion(name, names, otherwise="see pywt.wavelist(kind='discrete')")
        raise InputError(f"there is no discrete wavelet {name!r}; {hint}")
    try:
        return _bank(pywt.Wavelet(name))
    except ValueError as error:  # the name of a family or of a continuous wavelet
        raise InputError(
            f"{name!r} is not one discrete wavelet; see pywt.wavelist(kind='discrete')"
        ) from error


def _bank(wavelet: "pywt.Wavelet") -> FilterBank:
    dec_lo, dec_hi, rec_lo, rec_hi = (tuple(map(float, taps)) for taps in wavelet.filter_bank)
    if len(dec_lo) % 2:
        raise InputError(f"wavelet {wavelet.name!r} has filters of odd length {len(dec_lo)}")
    return FilterBank(wavelet.name, (dec_lo[::-1], dec_hi[::-1]), (rec_lo, rec_hi))
