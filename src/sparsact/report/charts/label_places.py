"""Places for labels beside their points, so that none covers another."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LETTER = 0.57
"""Mean width of a letter, as a share of the font's size; a little too much, to be safe."""
ANGLES = (0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 338, 202)
"""Where a label is tried first: right, left, above, below, between."""
DISTANCES = (9, 14, 22, 32, 45, 60, 80, 105, 135, 170, 210)
"""In pixels."""
MARKER = 6.0
"""Half the size of a point, in pixels."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two have an inner point in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: "Box") -> bool:
        """Whether the other one lies within this one."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in the unit of the font's size."""
    return LETTER * size * len(text)


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    frame: Box,
    size: float,
    strokes: Sequence[Box] = (),
) -> list[Box | None]:
    """A box for each text near its point, clear of all points and of the boxes before it.

    Args:
        points: in pixels; the first ones get the best places.
        texts: one per point.
        frame: where boxes may lie.
        size: of the font, in pixels.
        strokes: of lines, which boxes avoid if there is room elsewhere.

    Returns:
        boxes in the order of the points; None if there is no room.
    """
    marks = [Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    placed: list[Box | None] = []
    avoided = list(strokes)
    for point, text in zip(points, texts, strict=True):
        labels = [box for box in placed if box is not None]
        width, height = text_width(text, size), 1.15 * size
        inside = [box for box in _candidates(point, width, height) if frame.holds(box)]
        free = [box for box in inside if not any(map(box.overlaps, [*marks, *labels]))]
        clear = (
            box
            for box in free
            if not any(map(box.overlaps, avoided))
            and not any(a.overlaps(b) for a in _leader_boxes(point, box) for b in labels)
        )
        placed.append(next(clear, next(iter(free), None)))
        avoided += _leader_boxes(point, placed[-1])
    return placed


def _leader_boxes(point: tuple[float, float], box: Box | None) -> list[Box]:
    """What the line from a point to its label covers."""
    end = None if box is None else leader(point, box)
    return [] if end is None else [*along(point, end)]


def along(start: tuple[float, float], end: tuple[float, float]) -> Iterator[Box]:
    """Small boxes that cover a straight line."""
    count = max(1, math.ceil(math.dist(start, end) / MARKER))
    for i in range(count + 1):
        x, y = (a + (b - a) * i / count for a, b in zip(start, end, strict=True))
        yield Box(x - 1, y - 1, x + 1, y + 1)


def _candidates(point: tuple[float, float], width: float, height: float) -> Iterator[Box]:
    """Boxes around a point, the nearest first; the distance is that of the nearest edge."""
    for distance in DISTANCES:
        for angle in ANGLES:
            dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
            x = point[0] + distance * dx + (dx - 1) * width / 2
            y = point[1] + distance * dy + (dy - 1) * height / 2
            yield Box(x, y, x + width, y + height)


def leader(point: tuple[float, float], box: Box) -> tuple[float, float] | None:
    """Where a line from the point to its label ends; None if the label is so near as to need none.

    It is the point of the box that is nearest.
    """
    x = min(max(point[0], box.left), box.right)
    y = min(max(point[1], box.top), box.bottom)
    return (x, y) if math.dist(point, (x, y)) > 2 * MARKER else None
