"""Denoise arrays that are larger than memory, tile by tile, with the result of the whole."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.denoise.array_kinds import ArrayKind
from sparsact.denoise.block_shrinkage import Shrinkage
from sparsact.denoise.blocks import Blocks
from sparsact.denoise.files.file_content import cast
from sparsact.denoise.noise_estimate import MEDIAN_OF_NORMAL, has_noise, inside, rounding
from sparsact.denoise.noise_levels import known_noise
from sparsact.denoise.threshold_rules import Given, Level, bayes_threshold
from sparsact.denoise.wavelet_filters import FilterBank, filter_bank
from sparsact.denoise.wavelet_shrinkage import shrink_function
from sparsact.denoise.wavelet_transform import decompose, keys
from sparsact.thresholds.arguments import as_integer, check_threshold

if TYPE_CHECKING:
    import pywt

DEEPEST = (10, 5)  # default depth of signals and of images: a level doubles what tiles overlap
TILES = (2**18, 768, 96)  # default size of a tile along each dim, for 1, 2 and 3 dims

MOST_FINEST = 2**26  # coefficients from which the noise is estimated

Part = tuple[slice, ...]


def denoise_tiles(
    x: NDArray[Any],
    out: NDArray[Any] | None = None,
    wavelet: "str | pywt.Wavelet" = "db2",
    levels: int | None = None,
    threshold: str | float = "bayes",
    shrink: str | Callable[[Tensor, Level], Tensor] = "soft",
    sigma: float | None = None,
    dims: int = 2,
    *,
    tile: int | None = None,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Denoise an array of any size in bounded memory, with all shifts.

    The array is read twice: for the noise and the thresholds of all of it, and to denoise. Tiles
    overlap as far as the wavelets reach, so the result is that of
    ``denoise_wavelet(x, cycle_spins="all")`` with the same `levels`, up to rounding. One thing
    differs: with ``"bayes"``, a band of a signal has one threshold.

    Args:
        x: a NumPy array, such as a memory-mapped file; the last `dims` dims are transformed, each
            block of the others by itself.
        out: an array of the shape of `x` to write to, such as a memory-mapped file; None makes
            one.
        wavelet: as in `denoise_wavelet`.
        levels: depth of the transform; by default that of `denoise_wavelet`, at most 5 for images
            and volumes, and 10 for signals.
        threshold: ``"bayes"``, ``"visu"`` or a number λ.
        shrink: as in `denoise_wavelet`.
        sigma: the noise; None estimates it. Up to 2²⁶ of the finest coefficients are held in
            memory for this; of more, every second (third, …) is used, and σ is exact to 0.02 %.
        dims: number of transformed dims.
        tile: size of a tile along each dim, an even number.
        progress: called with the number of tiles done, their total, and a label.

    Returns:
        `out`, whose integers are rounded and clipped to their range.

    Raises:
        TypeError: `x` is not an array of real numbers.
        InputError: an argument has an unknown value, or `x` has NaN or infinite entries.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal((300, 200))
        >>> smooth = denoise_tiles(noise, tile=64)
        >>> bool(smooth.std() < 0.1)
        True
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "uif":
        raise TypeError("denoise_tiles expects a NumPy array of integers or floats")
    if not 1 <= as_integer(dims, "dims") <= min(x.ndim, 3):
        raise InputError(f"dims={dims} must be between 1 and {min(x.ndim, 3)}")
    if threshold not in ("bayes", "visu"):
        check_threshold(threshold, "threshold")
    out = np.empty_like(x) if out is None else out
    if out.shape != x.shape:
        raise InputError(f"out= has the shape {out.shape}, the input {x.shape}")
    bank, sizes = filter_bank(wavelet), x.shape[x.ndim - dims :]
    depths = bank.depths(sizes, levels, large_thresholds=threshold == "visu")
    if levels is None:
        depths = tuple(min(depth, DEEPEST[dims > 1]) for depth in depths)
    side = TILES[dims - 1] if tile is None else as_integer(tile, "tile")
    if side < 2 or side % 2:
        raise InputError(f"tile= must be a positive even number, got {side}")
    plan = _Tiles(bank, depths, sizes, side)
    blocks = list(np.ndindex(x.shape[: x.ndim - dims]))
    counter = ProgressCounter(2 * len(blocks) * plan.count, progress)
    for block in blocks:
        _denoise_block(x[block], out[block], plan, (threshold, shrink, sigma), counter)
    return out


def _denoise_block(
    x: NDArray[Any],
    out: NDArray[Any],
    plan: "_Tiles",
    settings: tuple[str | float, str | Callable[[Tensor, Level], Tensor], float | None],
    counter: ProgressCounter,
) -> None:
    threshold, shrink, sigma = settings
    wide = ArrayKind(np.empty(0, x.dtype), "denoise_tiles").real().dtype
    statistics = _Statistics(plan.rows(wide) if sigma is None else [])
    counter.label = "noise"
    for part in plan.parts():
        statistics.add(_read(x[plan.before(part)]), part, plan)
        counter.advance()
    level = statistics.sigma() if sigma is None else float(sigma)
    lambdas: Given = statistics.thresholds(threshold, level, math.prod(plan.sizes), plan)
    like = torch.empty(0, dtype=torch.float64)
    shrinkage = Shrinkage(
        plan.bank,
        plan.depths,
        "mirror",
        lambdas,
        shrink_function(shrink),
        known_noise(level, torch.Size(), len(plan.sizes), like, 1, None),
        0,
        torch.Size(),
    )
    counter.label = "denoising"
    for part in plan.parts():
        tile, inner = plan.around(part)
        if level > 0 or not isinstance(threshold, str):
            clean = shrinkage(Blocks(_read(x[tile])), 2**62)[inner]
            out[part] = cast(clean.numpy(), out.dtype)
        else:
            out[part] = x[part]
        counter.advance()


def _read(values: NDArray[Any]) -> Tensor:
    tensor = ArrayKind(np.array(values), "denoise_tiles").real()
    if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
        raise InputError("denoise_tiles takes no NaN or infinite entries; fill them first")
    return tensor


def _square_sum(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2


class _Row:
    """Numbers that arrive in pieces, in one place that does not fragment the memory."""

    def __init__(self, capacity: int, dtype: torch.dtype) -> None:
        self.values = torch.empty(capacity, dtype=dtype).numpy()
        self.size = 0

    def append(self, piece: Tensor) -> None:
        self.values[self.size : self.size + len(piece)] = piece.numpy()
        self.size += len(piece)

    def median_above(self, floor: float) -> float:
        """The median of the numbers above `floor`, or 0; the order of the numbers is lost."""
        values = self.values[: self.size]
        below = int(np.count_nonzero(values <= floor))
        count = len(values) - below
        if count == 0:
            return 0.0
        middle = [below + (count - 1) // 2, below + count // 2]
        values.partition(middle)
        return float(values[middle].astype(np.float64).mean())


@dataclass(frozen=True)
class _Tiles:
    """How a block is cut: parts that do not overlap, and what each needs around it."""

    bank: FilterBank
    depths: tuple[int, ...]
    sizes: tuple[int, ...]
    side: int

    @property
    def count(self) -> int:
        return math.prod(-(-size // self.side) for size in self.sizes)

    def rows(self, dtype: torch.dtype) -> list[_Row]:
        """Room for the finest coefficients: two rows for the two phases of a signal."""
        lengths = (
            (size + reach) // 2 + 1 + -(-size // self.side)
            for size, reach in zip(self.sizes, self.reach(1), strict=True)
        )
        capacity = math.prod(lengths) // self.thinning + self.count
        return [_Row(capacity, dtype) for _ in range(2 if len(self.sizes) == 1 else 1)]

    @property
    def thinning(self) -> int:
        """Of the finest coefficients, every nth is used for the noise, for this n."""
        finest = math.prod(self.sizes) // (1 if len(self.sizes) == 1 else 2 ** len(self.sizes))
        return -(-max(1, finest) // MOST_FINEST)

    def parts(self) -> Iterator[Part]:
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


@dataclass
class _Statistics:
    """What the noise and the thresholds of a block are computed from."""

    finest: list[_Row]
    squares: dict[tuple[int, str], float] = field(default_factory=dict)
    counts: dict[tuple[int, str], float] = field(default_factory=dict)
    floor: float = 0.0
    can_be_noise: bool = False

    def add(self, x: Tensor, part: Part, plan: _Tiles) -> None:
        """Count the coefficients of one part; `x` is the tile before it."""
        ndim = len(plan.sizes)
        bands = decompose(x, plan.bank, plan.depths, ndim, stationary=True)
        for level, details in zip(range(len(bands.details), 0, -1), bands.details, strict=True):
            place = plan.owned(part, level)
            for name, band in zip(keys(ndim, bands.is_split(level)), details, strict=True):
                own = band[place]
                key = level, name
                self.squares[key] = self.squares.get(key, 0.0) + _square_sum(own)
                self.counts[key] = self.counts.get(key, 0) + own.numel()
        fine = bands.details[-1][-1][plan.finest(part)].abs()
        for phase, row in enumerate(self.finest):
            own = fine[(slice(phase, None, 2),) * ndim].flatten()
            row.append(own[:: plan.thinning])
        self.floor = max(self.floor, float(rounding(bands)))
        noisy = has_noise(x, ndim)
        self.can_be_noise |= noisy is None or bool(noisy.all())

    def sigma(self) -> float:
        """The noise, as ``robust_sigma`` estimates it from all coefficients."""
        if not self.can_be_noise:
            return 0.0
        estimates = [row.median_above(self.floor) for row in self.finest]
        self.finest.clear()
        return sum(estimates) / len(estimates) / MEDIAN_OF_NORMAL

    def thresholds(
        self, threshold: str | float, sigma: float, samples: int, plan: _Tiles
    ) -> list[float | Tensor | Mapping[str, float | Tensor]]:
        """λ of each band, coarsest level first."""
        by_level: list[dict[str, float]] = [{} for _ in range(max(plan.depths))]
        for (level, name), square in self.squares.items():
            if isinstance(threshold, (int, float)):
                lambd = float(threshold)
            elif threshold == "visu":
                lambd = sigma * math.sqrt(2 * math.log(samples))
            else:
                excess = square / self.counts[level, name] - sigma**2
                numbers = (sigma**2, excess, math.sqrt(square))
                lambd = float(bayes_threshold(*torch.tensor(numbers, dtype=torch.float64)))
            by_level[-level][name] = lambd
        return list(by_level)
