"""A drawing with two axes, as SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from sparsact.report.charts.axis import Axis
from sparsact.report.charts.label_places import Box, along, leader, place_labels, text_width

FONT = 12.0
PIXELS = 2.5
"""Between two points of a line; more are not visible, and make the page large."""
STAR = "M0-9 2.2-3 8.6-2.8 3.6 1.2 5.3 7.3 0 3.8-5.3 7.3-3.6 1.2-8.6-2.8-2.2-3Z"


class Chart:
    """Lines, points and bars between two axes.

    A colour is a class of the page's style sheet, so a chart follows the page into dark mode. A
    hint is shown where the pointer rests. What lies outside the axes is not drawn.

    Args:
        x: from left to right.
        y: from bottom to top.
        width: in pixels, at its natural size.
        height: in pixels.
        label: what it shows, for a reader who cannot see it.

    Attributes:
        key: name → colour of what is drawn, for :func:`key_line`.
    """

    def __init__(self, x: Axis, y: Axis, width: int, height: int, label: str) -> None:
        self.x, self.y, self.width, self.height, self.label = x, y, width, height, label
        left = 10 + max((text_width(text, FONT) for _, text in y.ticks), default=0.0)
        self.frame = Box(
            left,
            22.0 if y.title else 8.0,
            width - 14.0,
            height - (40.0 if x.title else 22.0),
        )
        self.key: dict[str, str] = {}
        self._marks: list[str] = []
        self._strokes: list[Box] = []
        self._points: list[tuple[float, float, str, str]] = []

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        colour: str,
        *,
        style: str = "",
        hint: str = "",
        key: str = "",
    ) -> None:
        """A line; values that are not finite or lie outside leave a gap.

        Args:
            xs: one per point.
            ys: one per point.
            colour: its class.
            style: further classes: ``dotted``, ``thin``, ``filled``.
            hint: what it is.
            key: its name in the :attr:`key` of the drawing.
        """
        if key:
            self.key[key] = colour
        words, pen, before = [], "M", (0.0, 0.0)
        for x, y in self._thinned(list(zip(xs, ys, strict=True))):
            place = self._pixels(x, y)
            if place is None:
                pen = "M"
                continue
            words.append(f"{pen}{_number(place[0])} {_number(place[1])}")
            if pen == "L":
                self._strokes += along(before, place)
            before, pen = place, "L"
        self._add(f'<path class="stroke {colour} {style}" d="{"".join(words)}"/>', hint)

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str
    ) -> None:
        """The area between two lines; it ends at the edge of the drawing."""
        rows = [
            row
            for row in self._thinned(list(zip(xs, low, high, strict=True)))
            if all(map(math.isfinite, row))
        ]
        upper = [self._clamped(x, y) for x, _, y in rows]
        lower = [self._clamped(x, y) for x, y, _ in reversed(rows)]
        corners = " ".join(f"{x:.0f} {y:.0f}" for x, y in [*upper, *lower])
        self._add(f'<polygon class="band {colour}" points="{corners}"/>', "")

    def point(
        self,
        x: float,
        y: float,
        colour: str,
        *,
        errors: tuple[float, float] = (0.0, 0.0),
        style: str = "",
        label: str = "",
        hint: str = "",
    ) -> None:
        """A point with error bars.

        Args:
            x: where.
            y: where.
            colour: its class.
            errors: half the length of the bars along x and along y.
            style: further classes: ``star``, ``hollow``.
            label: is written beside it by :meth:`write_labels`.
            hint: what it is.
        """
        place = self._pixels(x, y)
        if place is None:
            return
        (left, low), (right, high) = (
            self._clamped(x + sign * errors[0], y + sign * errors[1]) for sign in (-1, 1)
        )
        self._strokes += [*along((left, place[1]), (right, place[1]))]
        self._strokes += [*along((place[0], low), (place[0], high))]
        px, py = map(_number, place)
        bars = "" if right - left < 1 else f"M{_number(left)} {py}H{_number(right)}"
        bars += "" if low - high < 1 else f"M{px} {_number(low)}V{_number(high)}"
        mark = (
            f'<path class="point {colour} {style}" transform="translate({px} {py})" d="{STAR}"/>'
            if "star" in style
            else f'<circle class="point {colour} {style}" cx="{px}" cy="{py}" r="4.5"/>'
        )
        self._add((f'<path class="error {colour}" d="{bars}"/>' if bars else "") + mark, hint)
        self._points.append((*place, label, colour))

    def bar(
        self,
        across: tuple[float, float],
        upright: tuple[float, float],
        colour: str,
        hint: str = "",
    ) -> None:
        """A filled rectangle from one corner to the other, in the units of the axes."""
        (left, first), (right, second) = (self._clamped(across[i], upright[i]) for i in (0, 1))
        top, bottom = sorted((first, second))
        self._add(
            f'<rect class="bar {colour}" x="{_number(left)}" y="{_number(top)}" '
            f'width="{_number(right - left)}" height="{_number(bottom - top)}"/>',
            hint,
        )

    def level(self, y: float, colour: str, text: str = "") -> None:
        """A dashed line at a height, with words; one below the drawing is named at its edge."""
        share = self.y.share(y)
        if not 0 <= share <= 1:
            edge, arrow = (self.frame.bottom - 5, "↓") if share < 0 else (self.frame.top + 12, "↑")
            self._text(self.frame.left + 6, edge, f"{arrow} {text}", f"{colour} fill")
            return
        _, height = self._clamped(self.x.low, y)
        across = f"M{_number(self.frame.left)} {_number(height)}H{_number(self.frame.right)}"
        self._add(f'<path class="stroke thin dotted {colour}" d="{across}"/>', text)
        self._strokes.append(
            Box(
                self.frame.left,
                height - FONT - 4,
                self.frame.left + 6 + text_width(text, FONT),
                height,
            )
        )
        self._text(self.frame.left + 6, height - 4, text, f"{colour} fill")

    def write_labels(self) -> int:
        """Write the labels of all points beside them; return how many found no room."""
        labelled = [point for point in self._points if point[2]]
        others = [point for point in self._points if not point[2]]
        ordered = [*labelled, *others]
        places = [(x, y) for x, y, _, _ in ordered]
        texts = [text for _, _, text, _ in labelled]
        blank = [""] * len(others)
        boxes = place_labels(places, [*texts, *blank], self.frame, FONT, self._strokes)
        for (x, y, text, colour), box in zip(labelled, boxes, strict=False):
            if box is None:
                continue
            end = leader((x, y), box)
            if end is not None:
                points = f"M{_number(x)} {_number(y)}L{_number(end[0])} {_number(end[1])}"
                self._marks.insert(0, f'<path class="leader {colour}" d="{points}"/>')
            self._text(box.left, box.bottom - 3, text, f"{colour} fill")
        return sum(box is None for box in boxes[: len(labelled)])

    def svg(self, classes: str = "") -> str:
        """The drawing."""
        return (
            f'<svg class="chart {classes}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.label)}">{self._axes()}{"".join(self._marks)}</svg>'
        )

    def _axes(self) -> str:
        frame = self.frame
        parts, lines = [], []
        for value, text in self.y.ticks:
            _, y = self._clamped(self.x.low, value)
            lines.append(f"M{_number(frame.left)} {_number(y)}H{_number(frame.right)}")
            parts.append(_tick(frame.left - 5, y + 4, text, "end"))
        end = -math.inf
        for value, text in self.x.ticks:
            x, _ = self._clamped(value, self.y.low)
            half = text_width(text, FONT) / 2
            lines.append(f"M{_number(x)} {_number(frame.top)}V{_number(frame.bottom)}")
            if x - half > end:  # no tick covers the one before it
                parts.append(_tick(x, frame.bottom + 15, text, "middle"))
                end = x + half + 4
        if self.x.title:
            middle = (frame.left + frame.right) / 2
            parts.append(_tick(middle, self.height - 5, self.x.title, "middle"))
        if self.y.title:
            parts.append(_tick(2, 12, self.y.title, "start"))
        return f'<path class="grid" d="{"".join(lines)}"/>{"".join(parts)}'

    def _thinned(self, rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        """As many rows as are visible, at equal distances, the first and the last among them."""
        most = int(self.width / PIXELS)
        if len(rows) <= most:
            return rows
        step = (len(rows) - 1) / (most - 1)
        return [rows[round(i * step)] for i in range(most)]

    def _pixels(self, x: float, y: float) -> tuple[float, float] | None:
        """Where a point lies; None if it is outside."""
        across, up = self.x.share(x), self.y.share(y)
        if not (-1e-9 <= across <= 1 + 1e-9 and -1e-9 <= up <= 1 + 1e-9):  # nor NaN
            return None
        return self._clamped(x, y)

    def _clamped(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies, or the nearest place within the drawing."""
        frame = self.frame
        across, up = (min(max(s, 0.0), 1.0) for s in (self.x.share(x), self.y.share(y)))
        return (
            frame.left + across * (frame.right - frame.left),
            frame.bottom - up * (frame.bottom - frame.top),
        )

    def _text(self, x: float, y: float, text: str, classes: str) -> None:
        self._marks.append(
            f'<text class="{classes}" x="{_number(x)}" y="{_number(y)}">{escape(text)}</text>'
        )

    def _add(self, mark: str, hint: str) -> None:
        self._marks.append(f"<g><title>{escape(hint)}</title>{mark}</g>" if hint else mark)


def grid(figures: Iterable[tuple[str, Chart]], classes: str = "") -> str:
    """Small drawings side by side, each below its title of plain text."""
    drawn = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{key_line(chart.key)}{chart.svg()}"
        "</figure>"
        for title, chart in figures
    )
    return f'<div class="panels {classes}">{drawn}</div>'


def key_line(colours: Mapping[str, str], words: Iterable[str] = ()) -> str:
    """Names in their colours, and further words of plain text; empty if there are none."""
    names = [f'<b class="{colour}">{escape(name)}</b>' for name, colour in colours.items()]
    parts = [*names, *map(escape, words)]
    return f'<p class="key">{" · ".join(parts)}</p>' if parts else ""


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}"'
    return f'<text class="tick" {place}>{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
