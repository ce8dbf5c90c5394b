"""How an array is cut into tiles."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from sparsact.denoise.noise_estimate import inside
from sparsact.denoise.wavelet_filters import FilterBank

MOST_FINEST = 2**26  # coefficients from which the noise is estimated

Part = tuple[slice, ...]


@dataclass(frozen=True)
class TilePlan:
    """How a block is cut: parts that do not overlap, and what each needs around it.

    Attributes:
        bank: the filters.
        depths: the number of levels along each dim.
        sizes: of the block.
        side: of a part along each dim, even.
    """

    bank: FilterBank
    depths: tuple[int, ...]
    sizes: tuple[int, ...]
    side: int

    @property
    def count(self) -> int:
        """The number of parts."""
        return math.prod(-(-size // self.side) for size in self.sizes)

    @property
    def most_finest(self) -> int:
        """Room for the finest coefficients of one phase that are used for the noise."""
        lengths = (
            (size + reach) // 2 + 1 + -(-size // self.side)
            for size, reach in zip(self.sizes, self.reach(1), strict=True)
        )
        return math.prod(lengths) // self.thinning + self.count

    @property
    def thinning(self) -> int:
        """Of the finest coefficients, every nth is used for the noise, for this n."""
        finest = math.prod(self.sizes) // (1 if len(self.sizes) == 1 else 2 ** len(self.sizes))
        return -(-max(1, finest) // MOST_FINEST)

    def parts(self) -> Iterator[Part]:
        """The parts, in the order of memory."""
        ranges = (
            [slice(start, min(start + self.side, size)) for start in range(0, size, self.side)]
            for size in self.sizes
        )
        return itertools.product(*ranges)

    def reach(self, level: int) -> tuple[int, ...]:
        """How many samples before it a coefficient of a level depends on, along each dim."""
        return tuple((self.bank.length - 1) * (2 ** min(level, d) - 1) for d in self.depths)

    @property
    def margins(self) -> tuple[int, ...]:
        """The reach of the deepest level, made even, so that tiles begin at even samples."""
        return tuple(reach + reach % 2 for reach in self.reach(max(self.depths)))

    def before(self, part: Part) -> Part:
        """A part with the samples before it on which its coefficients depend."""
        return tuple(
            slice(max(0, place.start - margin), place.stop)
            for place, margin in zip(part, self.margins, strict=True)
        )

    def around(self, part: Part) -> tuple[Part, Part]:
        """A part with all samples on which its result depends, and its place among them."""
        tile = tuple(
            slice(max(0, place.start - margin), min(size, place.stop + margin))
            for place, margin, size in zip(part, self.margins, self.sizes, strict=True)
        )
        inner = tuple(
            slice(place.start - outer.start, place.stop - outer.start)
            for place, outer in zip(part, tile, strict=True)
        )
        return tile, inner

    def owned(self, part: Part, level: int) -> Part:
        """The place of a part's own coefficients in the bands of the tile :meth:`before` it.

        The last part along a dim owns also those beyond the last sample.
        """
        return tuple(
            slice(
                place.start - max(0, place.start - margin),
                place.stop - max(0, place.start - margin) + (reach if place.stop == size else 0),
            )
            for place, margin, size, reach in zip(
                part, self.margins, self.sizes, self.reach(level), strict=True
            )
        )

    def finest(self, part: Part) -> Part:
        """The place of the finest coefficients from which the noise is estimated."""
        places = []
        for own, place, size, reach in zip(
            self.owned(part, 1), part, self.sizes, self.reach(1), strict=True
        ):
            shift = own.start - place.start  # from a place in the whole band to one in the tile
            used = inside(size + reach, 2, self.bank.length)
            if len(self.sizes) > 1:
                own = slice(max(own.start, used.start + shift), min(own.stop, used.stop + shift))
            places.append(own)
        return tuple(places)
