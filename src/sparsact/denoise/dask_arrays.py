"""Denoise dask arrays: arrays larger than memory, on one machine or on a cluster."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.tile_plan import Part, TilePlan
from sparsact.denoise.tile_statistics import Row, TileStatistics
from sparsact.denoise.tiles import Measured, Settings, read_tile, tile_plan
from sparsact.denoise.wavelet_filters import Levels


def is_dask(x: object) -> bool:
    """Whether `x` is a dask array; dask is not imported for this."""
    kind = type(x)
    return kind.__name__ == "Array" and kind.__module__.partition(".")[0] == "dask"


def dask_settings(threshold: Any, shrink: Any, sigma: Any, others: Mapping[str, bool]) -> Settings:
    """The settings for a dask array.

    Args:
        threshold: as in `denoise_wavelet`.
        shrink: as in `denoise_wavelet`.
        sigma: as in `denoise_wavelet`.
        others: arguments that must have their default, and whether they differ from it.

    Raises:
        InputError: they are not for dask arrays.
    """
    refused = {
        "threshold": threshold not in ("bayes", "visu") and not isinstance(threshold, (int, float)),
        "sigma": sigma is not None and not isinstance(sigma, (int, float)),
        **others,
    }
    for name, differs in refused.items():
        if differs:
            raise InputError(
                f"{name}= of this kind is not for dask arrays; compute the array first"
            )
    return Settings(threshold, shrink, sigma)


def denoise_dask(
    x: Any,
    settings: Settings,
    wavelet: Any,
    levels: Levels,
    dims: int,
    channel_dim: int | None,
) -> Any:
    """A dask array with the result of `denoise_tiles`, computed when it is needed.

    Each part of the result is read with an overlap, as far as the wavelets reach. The noise and
    the thresholds of a block come from all its parts.
    """
    da: Any = require("dask.array", "dask")
    if x.dtype.kind not in "uif":
        raise TypeError("denoise_wavelet expects dask arrays of integers or floats")
    if any(math.isnan(size) for size in x.shape):
        raise InputError("the array has chunks of unknown size; call its compute_chunk_sizes()")
    moved = x if channel_dim is None else da.moveaxis(x, channel_dim, 0)
    if not 1 <= dims <= moved.ndim - (channel_dim is not None):
        raise InputError(f"dims={dims} does not fit an array of shape {x.shape}")
    chunk = max(max(sizes) for sizes in moved.chunks[moved.ndim - dims :])
    plan = tile_plan(moved.shape, wavelet, levels, settings.threshold, dims, chunk + chunk % 2)
    batch = moved.shape[: moved.ndim - dims]
    blocks = [_denoised(da, moved[index], plan, settings) for index in np.ndindex(batch)]
    clean = da.stack(blocks).reshape(moved.shape) if batch else blocks[0]
    return clean if channel_dim is None else da.moveaxis(clean, 0, channel_dim)


def _denoised(da: Any, x: Any, plan: TilePlan, settings: Settings) -> Any:
    """One block."""
    delayed: Any = require("dask", "dask").delayed
    parts = list(plan.parts())
    counted = [
        delayed(_statistics)(x[plan.before(part)], part, plan, settings.sigma is None)
        for part in parts
    ]
    measured = delayed(_measured)(counted, plan, settings)
    results = []
    for part in parts:
        tile, inner = plan.around(part)
        clean = delayed(_part)(x[tile], inner, measured, plan, settings)
        shape = tuple(place.stop - place.start for place in part)
        results.append(da.from_delayed(clean, shape, x.dtype))
    return da.block(_nested(results, [-(-size // plan.side) for size in plan.sizes]))


def _nested(flat: list[Any], counts: list[int]) -> list[Any]:
    """A list of lists, one level for each dim."""
    for count in counts[:0:-1]:
        flat = [flat[start : start + count] for start in range(0, len(flat), count)]
    return flat


def _statistics(x: NDArray[Any], part: Part, plan: TilePlan, noise: bool) -> TileStatistics:
    tensor = read_tile(x)
    count = 2 if len(plan.sizes) == 1 else 1
    room = tensor.numel() + max(plan.reach(1)) * max(tensor.shape)
    statistics = TileStatistics([Row(room, tensor.dtype) for _ in range(count * noise)])
    statistics.add(tensor, part, plan)
    return TileStatistics.merged([statistics])  # without the room that is left


def _measured(parts: list[TileStatistics], plan: TilePlan, settings: Settings) -> Measured:
    return settings.measured(TileStatistics.merged(parts), plan)


def _part(
    x: NDArray[Any], inner: Part, measured: Measured, plan: TilePlan, settings: Settings
) -> NDArray[Any]:
    return settings.denoised(x, inner, measured, plan)
