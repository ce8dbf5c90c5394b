"""A picture of the noisy input, the result, and the removed noise with its spectrum."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.extras import require
from sparsact.denoise.removed_noise import RemovedNoise
from sparsact.report.palette import FRONT, MUTED, PALETTE

Array = NDArray[Any]
MOST_SAMPLES = 2000  # from the middle of a signal: more would look like a solid band
REMOVED_NOISE = "removed noise"
SIGNAL_COLOURS = (PALETTE[8], PALETTE[0], FRONT)  # noisy, result, removed noise
LEAST_ZOOM = 24  # pixels of the side of an inset


@dataclass(frozen=True)
class Comparison:
    """What the picture shows.

    Attributes:
        noisy: a signal (T,), (T, tracks), or an image (H, W) or with colours along `channel_dim`;
            leading dims are a batch, whose first entry is shown.
        clean: the result, of the same shape.
        titles: of the noisy and the clean panel.
        dims: 1 for signals, 2 for images, 3 for volumes, whose middle image is shown.
        channel_dim: dim of the colours or tracks, or None.
        removed: the power of the removed noise, or None.
    """

    noisy: Array
    clean: Array
    titles: tuple[str, str]
    dims: int
    channel_dim: int | None = None
    removed: RemovedNoise | None = None

    def save(self, path: Path) -> None:
        """Write the panels as a PNG."""
        figure_type = require("matplotlib.figure", "denoise").Figure
        before, after = (_first(v, self.dims, self.channel_dim) for v in (self.noisy, self.clean))
        if self.dims == 1:
            figure = figure_type(figsize=(11, 8.5), layout="constrained")
            panels = figure.subplots(4, 1)
            _signals(panels[:3], before, after, self.titles)
        else:
            height, width = before.shape[:2]
            size = (15, 1.2 + 5 * min(2.0, height / width) + 4.6)
            figure = figure_type(figsize=size, layout="constrained")
            panels = figure.subplots(2, 3, height_ratios=[size[1] - 5.8, 4.6])
            _images(panels, before, after, self.titles)
        _spectrum(panels.flat[-1], self.removed)
        figure.savefig(path, dpi=120, format="png")


def _first(values: Array, dims: int, channel_dim: int | None) -> Array:
    """The first signal (T,) or image (H, W[, 3]) in float64; the first track of a sound."""
    if channel_dim is not None:
        values = np.moveaxis(values, channel_dim, -1)
        if dims == 1 or values.shape[-1] != 3:
            values = values[..., 0]
    kept = dims + (channel_dim is not None and values.ndim > dims and values.shape[-1] == 3)
    while values.ndim > kept:
        values = values[0]
    shown = values[len(values) // 2] if dims == 3 else values
    return np.asarray(shown, np.float64)


def _signals(axes: Any, noisy: Array, clean: Array, titles: tuple[str, str]) -> None:
    start = max(0, (len(noisy) - MOST_SAMPLES) // 2)
    part = slice(start, start + MOST_SAMPLES)
    time = np.arange(len(noisy))[part]
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
        panel.sharex(axes[0])
    span = np.ptp(axes[0].get_ylim()) / 2
    axes[1].set_ylim(axes[0].get_ylim())
    axes[2].set_ylim(-span, span)  # the same scale, around 0
    axes[2].set_xlabel("sample")


def _images(panels: Any, noisy: Array, clean: Array, titles: tuple[str, str]) -> None:
    """The whole images above, and insets of the noisy one and the result below."""
    low, high = np.percentile(clean, [0.1, 99.9])
    scale = high - low or 1.0
    removed = noisy - clean
    reach = 3 * removed.std() or 1.0  # grey is 0, black and white are 3 deviations
    shown = [(noisy - low) / scale, (clean - low) / scale, removed / (2 * reach) + 0.5]
    for axes, values, title in zip(panels[0], shown, (*titles, REMOVED_NOISE), strict=True):
        _image(axes, values, title)
    rows, columns = inset(clean)
    for axes, whole, values, title in zip(panels[1], panels[0], shown[:2], titles, strict=False):
        _image(axes, values[rows, columns], f"{title.partition(':')[0]}, enlarged")
        corner = columns.start - 0.5, rows.start - 0.5
        size = columns.stop - columns.start, rows.stop - rows.start
        patch = require("matplotlib.patches", "denoise").Rectangle
        whole.add_patch(patch(corner, *size, fill=False, color=FRONT, lw=1.5))


def _image(axes: Any, values: Array, title: str) -> None:
    axes.imshow(np.clip(values, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_axis_off()


def inset(image: Array) -> tuple[slice, slice]:
    """The square of an image (H, W[, 3]) with the most detail: a sixth of its longer side."""
    grey = image.mean(2) if image.ndim == 3 else image
    side = min(*grey.shape, max(LEAST_ZOOM, max(grey.shape) // 6))
    step = max(1, side // 2)
    detail = np.zeros(grey.shape)
    detail[1:] += np.abs(np.diff(grey, axis=0))
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    corners = [
        (row, column)
        for row in range(0, grey.shape[0] - side + 1, step)
        for column in range(0, grey.shape[1] - side + 1, step)
    ]
    row, column = max(corners, key=lambda c: detail[c[0] : c[0] + side, c[1] : c[1] + side].sum())
    return slice(row, row + side), slice(column, column + side)


def _spectrum(axes: Any, removed: RemovedNoise | None) -> None:
    """The power of the removed noise at each frequency."""
    axes.set_title("spectrum of the removed noise", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    if removed is None:
        axes.text(0.5, 0.5, "not measured", ha="center", color=MUTED, transform=axes.transAxes)
        return
    axes.axhline(1, color=MUTED, lw=1, ls="--", label="white noise")
    axes.plot(
        removed.frequencies,
        removed.limits,
        color=FRONT,
        lw=1,
        label="limit for noise (1 % false alarms)",
    )
    axes.plot(removed.frequencies, removed.power, "o-", color=PALETTE[0], label="removed")
    axes.set_ylim(0, 1.1 * max(*removed.power, *removed.limits))
    axes.set_xlabel("frequency (cycles per sample)")
    axes.set_ylabel("power / σ²")
    axes.legend(fontsize=9, frameon=False)
