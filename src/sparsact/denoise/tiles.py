"""Denoise arrays that are larger than memory, tile by tile, with the result of the whole."""

import math
from collections.abc import Callable
from dataclasses import dataclass
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
from sparsact.denoise.missing_values import squares_fit
from sparsact.denoise.noise_levels import known_noise
from sparsact.denoise.shrinkages import shrink_function
from sparsact.denoise.threshold_rules import Given, Level
from sparsact.denoise.tile_plan import Part, TilePlan
from sparsact.denoise.tile_statistics import TileStatistics, rows_for
from sparsact.denoise.wavelet_filters import Levels, filter_bank
from sparsact.thresholds.arguments import as_integer, check_threshold

if TYPE_CHECKING:
    import pywt

Measured = tuple[float, Given]
DEEPEST = (10, 5)  # default depth of signals and of images: a level doubles what tiles overlap
TILES = (2**18, 768, 96)  # default size of a tile along each dim, for 1, 2 and 3 dims


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
    plan = tile_plan(x.shape, wavelet, levels, threshold, dims, tile)
    out = np.empty_like(x) if out is None else out
    if out.shape != x.shape:
        raise InputError(f"out= has the shape {out.shape}, the input {x.shape}")
    blocks = list(np.ndindex(x.shape[: x.ndim - dims]))
    counter = ProgressCounter(2 * len(blocks) * plan.count, progress)
    for block in blocks:
        _denoise_block(x[block], out[block], plan, Settings(threshold, shrink, sigma), counter)
    return out


def tile_plan(
    shape: tuple[int, ...],
    wavelet: "str | pywt.Wavelet",
    levels: Levels,
    threshold: str | float,
    dims: int,
    tile: int | None,
) -> TilePlan:
    """How the blocks of an array of this shape are cut, from the arguments of `denoise_tiles`.

    Raises:
        InputError: an argument has an unknown value.
    """
    if not 1 <= as_integer(dims, "dims") <= min(len(shape), 3):
        raise InputError(f"dims={dims} must be between 1 and {min(len(shape), 3)}")
    if threshold not in ("bayes", "visu"):
        check_threshold(threshold, "threshold")
    bank, sizes = filter_bank(wavelet), shape[len(shape) - dims :]
    depths = bank.depths(sizes, levels, large_thresholds=threshold == "visu")
    if levels is None:
        depths = tuple(min(depth, DEEPEST[dims > 1]) for depth in depths)
    side = TILES[dims - 1] if tile is None else as_integer(tile, "tile")
    if side < 2 or side % 2:
        raise InputError(f"tile= must be a positive even number, got {side}")
    return TilePlan(bank, depths, sizes, side)


@dataclass(frozen=True)
class Settings:
    """How a block is denoised.

    Attributes:
        threshold: ``"bayes"``, ``"visu"`` or a number.
        shrink: as in `denoise_wavelet`.
        sigma: the noise; None estimates it.
    """

    threshold: str | float
    shrink: str | Callable[[Tensor, Level], Tensor]
    sigma: float | None

    def measured(self, statistics: TileStatistics, plan: TilePlan) -> "Measured":
        """The noise and the thresholds of a block."""
        level = statistics.sigma() if self.sigma is None else float(self.sigma)
        lambdas = statistics.thresholds(self.threshold, level, math.prod(plan.sizes), plan)
        return level, lambdas

    def denoised(
        self, tile: NDArray[Any], inner: Part, measured: "Measured", plan: TilePlan
    ) -> NDArray[Any]:
        """The part `inner` of a tile, in its dtype."""
        level, lambdas = measured
        if level == 0 and isinstance(self.threshold, str):
            return tile[inner]
        like = torch.empty(0, dtype=torch.float64)
        shrinkage = Shrinkage(
            plan.bank,
            plan.depths,
            "mirror",
            lambdas,
            shrink_function(self.shrink),
            known_noise(level, torch.Size(), len(plan.sizes), like, 1, None),
            0,
            torch.Size(),
        )
        return cast(shrinkage(Blocks(read_tile(tile)), 2**62)[inner].numpy(), tile.dtype)


def _denoise_block(
    x: NDArray[Any],
    out: NDArray[Any],
    plan: TilePlan,
    settings: Settings,
    counter: ProgressCounter,
) -> None:
    wide = ArrayKind(np.empty(0, x.dtype), "denoise_tiles").real().dtype
    statistics = TileStatistics(rows_for(plan, wide) if settings.sigma is None else [])
    counter.label = "noise"
    for part in plan.parts():
        statistics.add(read_tile(x[plan.before(part)]), part, plan)
        counter.advance()
    measured = settings.measured(statistics, plan)
    counter.label = "denoising"
    for part in plan.parts():
        tile, inner = plan.around(part)
        out[part] = settings.denoised(x[tile], inner, measured, plan)
        counter.advance()


def read_tile(values: NDArray[Any]) -> Tensor:
    """The numbers of a tile in float32 or float64.

    Raises:
        InputError: some are NaN, infinite or so large that squares overflow.
    """
    tensor = ArrayKind(np.array(values), "denoise_tiles").real()
    if not squares_fit(tensor):
        raise InputError(
            "denoise_tiles takes no NaN or infinite entries, nor entries whose squares overflow "
            f"{tensor.dtype}; fill them first"
        )
    return tensor
