"""A picture of the noisy input, the result, and the removed noise."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.extras import require
from sparsact.report.palette import FRONT, PALETTE

MOST_SAMPLES = 2000  # from the middle of a signal: more would look like a solid band
REMOVED_NOISE = "removed noise"
SIGNAL_COLOURS = (PALETTE[8], PALETTE[0], FRONT)  # noisy, result, removed noise


def save_before_after(
    path: Path,
    noisy: NDArray[Any],
    clean: NDArray[Any],
    titles: tuple[str, str],
    dims: int,
    channel_dim: int | None = None,
) -> None:
    """Write the three panels as a PNG.

    Args:
        path: of the picture.
        noisy: a signal (T,), (T, tracks), or an image (H, W) or with colours along `channel_dim`;
            leading dims are a batch, whose first entry is shown.
        clean: the result, of the same shape.
        titles: of the noisy and the clean panel.
        dims: 1 for signals, 2 for images, 3 for volumes, whose middle image is shown.
        channel_dim: dim of the colours or tracks, or None.
    """
    figure_type = require("matplotlib.figure", "denoise").Figure
    before, after = (_first(values, dims, channel_dim) for values in (noisy, clean))
    if dims == 1:
        figure = figure_type(figsize=(11, 6.5), layout="constrained")
        _signals(figure, before, after, titles)
    else:
        height, width = before.shape[:2]
        figure = figure_type(figsize=(15, 0.6 + 5 * height / width), layout="constrained")
        _images(figure, before, after, titles)
    figure.savefig(path, dpi=120, format="png")


def _first(values: NDArray[Any], dims: int, channel_dim: int | None) -> NDArray[Any]:
    """The first signal (T,) or image (H, W[, 3]) in float64; the first track of a sound."""
    values = values.astype(np.float64)
    if channel_dim is not None:
        values = np.moveaxis(values, channel_dim, -1)
        if dims == 1 or values.shape[-1] != 3:
            values = values[..., 0]
    kept = dims + (channel_dim is not None and values.ndim > dims and values.shape[-1] == 3)
    first: NDArray[Any] = values.reshape(-1, *values.shape[values.ndim - kept :])[0]
    return first[len(first) // 2] if dims == 3 else first


def _signals(
    figure: Any, noisy: NDArray[Any], clean: NDArray[Any], titles: tuple[str, str]
) -> None:
    start = max(0, (len(noisy) - MOST_SAMPLES) // 2)
    part = slice(start, start + MOST_SAMPLES)
    time = np.arange(len(noisy))[part]
    axes = figure.subplots(3, 1, sharex=True)
    for panel, values, title, colour in zip(
        axes,
        (noisy, clean, noisy - clean),
        (*titles, REMOVED_NOISE),
        SIGNAL_COLOURS,
        strict=True,
    ):
        panel.plot(time, values[part], color=colour, lw=0.8)
        panel.set_title(title, loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    span = np.ptp(axes[0].get_ylim()) / 2
    axes[1].set_ylim(axes[0].get_ylim())
    axes[2].set_ylim(-span, span)  # the same scale, around 0
    axes[2].set_xlabel("sample")


def _images(figure: Any, noisy: NDArray[Any], clean: NDArray[Any], titles: tuple[str, str]) -> None:
    low, high = np.percentile(clean, [0.1, 99.9])
    scale = high - low or 1.0
    removed = noisy - clean
    reach = 3 * removed.std() or 1.0  # grey is 0, black and white are 3 deviations
    panels = [(noisy - low) / scale, (clean - low) / scale, removed / (2 * reach) + 0.5]
    for axes, values, title in zip(
        figure.subplots(1, 3), panels, (*titles, REMOVED_NOISE), strict=True
    ):
        axes.imshow(np.clip(values, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_axis_off()
