"""The picture of a comparison, for a README or a paper."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparsact._common.atomic import write_files
from sparsact._common.extras import require
from sparsact.report.charts.label_places import Box, along, leader, place_labels
from sparsact.report.comparison.comparison_records import ComparisonReport, SettingRow
from sparsact.report.comparison.frontier_figure import (
    errors_of,
    front_points,
    is_hollow,
    label_of,
    lines,
    measured,
    point_of,
)
from sparsact.report.palette import FRONT, INK, MUTED, colours

FONT = 8.0
"""Size of the labels, in points."""


def save_frontier(report: ComparisonReport, path: Path) -> None:
    """Write score against density as a PNG; the Pareto front and the choice are marked."""
    figure = require("matplotlib.figure", "report").Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    rows = measured(report.rows)
    palette = _row_colours(report)
    front = front_points(rows)
    if front:
        axes.plot(*zip(*front, strict=True), ":", color=FRONT, zorder=1)
    for joined in lines(rows):
        points = zip(*map(point_of, joined), strict=True)
        axes.plot(*points, color=palette[joined[0].label], linewidth=0.6, zorder=1)
    for row in rows:
        _point(axes, row, palette[row.label])
    axes.margins(0.08)
    axes.set_xlabel("density: share of non-zero activations")
    axes.set_ylabel(f"test {report.score_name}")
    axes.set_title(report.title, color=INK, loc="left")
    axes.xaxis.set_major_formatter(require("matplotlib.ticker", "report").PercentFormatter(1.0, 0))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()  # places depend on the axes
    figure.set_layout_engine("none")
    _write_labels(axes, rows, palette)
    write_files({path: lambda new: figure.savefig(new, dpi=150, format="png")})


def _row_colours(report: ComparisonReport) -> dict[str, str]:
    """A colour for each family, as on the page."""
    of_family = colours(row.family for row in report.rows if row.family)
    return {
        row.label: INK if row.activation == "relu" else of_family.get(row.family, MUTED)
        for row in report.rows
    }


def _point(axes: Any, row: SettingRow, colour: str) -> None:
    across, up = errors_of(row)
    axes.errorbar(
        *point_of(row),
        xerr=across,
        yerr=up,
        fmt="*" if row.picked else "o",
        markersize=14 if row.picked else 6,
        color=colour,
        markerfacecolor="white" if is_hollow(row) else colour,
        elinewidth=0.8,
        zorder=3 if row.picked else 2,
    )


def _write_labels(axes: Any, rows: Sequence[SettingRow], palette: dict[str, str]) -> None:
    """Write each label beside its point, clear of the error bars and of the front."""
    if not rows:  # every training diverged
        return
    points = [point_of(row) for row in rows]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    (left, bottom), (right, top) = _places(axes, [(x0, y0), (x1, y1)])
    places = _places(axes, points)
    boxes = place_labels(
        places,
        [label_of(row) for row in rows],
        Box(left, top, right, bottom),
        FONT,
        [box for ends in _segments(rows) for box in along(*_places(axes, ends))],
    )
    for row, point, place, box in zip(rows, points, places, boxes, strict=True):
        if box is None or not label_of(row):
            continue
        arrow = {"arrowstyle": "-", "color": palette[row.label], "lw": 0.5, "shrinkA": 0}
        axes.annotate(
            label_of(row),
            point,
            xytext=(box.left - place[0], place[1] - (box.top + box.bottom) / 2),
            textcoords="offset points",
            va="center",
            fontsize=FONT,
            color=palette[row.label],
            arrowprops=arrow if leader(place, box) else None,
        )


def _places(axes: Any, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where data lie, in points of the font; y grows downwards."""
    scale = 72 / axes.figure.dpi
    return [(scale * x, -scale * y) for x, y in axes.transData.transform(points)]


def _segments(rows: Sequence[SettingRow]) -> Iterator[Sequence[tuple[float, float]]]:
    """The error bars and the front, as pairs of points in the units of the data."""
    yield from pairwise(front_points(rows))
    for row in rows:
        (x, y), (across, up) = point_of(row), errors_of(row)
        yield (x - across, y), (x + across, y)
        yield (x, y - up), (x, y + up)
