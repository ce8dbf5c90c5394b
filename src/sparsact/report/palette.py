"""The colours of all pages and pictures."""

from collections.abc import Iterable

INK = "#1f2933"
MUTED = "#52606d"
FAINT = "#9aa5b1"
LINE = "#e4e7eb"
STRONG_LINE = "#cbd2d9"
FRONT = "#d64545"
HIGHLIGHT = "#fdf3f2"
POSITIVE = "246 173 85"
NEGATIVE = "99 179 237"
"""Red, green and blue of the shades of positive and negative activations, for CSS ``rgb()``."""
PALETTE = (
    "#2b6cb0",
    "#dd6b20",
    "#2f855a",
    "#805ad5",
    "#b83280",
    "#00838f",
    "#8d6e63",
    "#b7950b",
    "#546e7a",
    "#c53030",
    "#5a67d8",
    "#38a169",
    "#d53f8c",
    "#3182ce",
    "#975a16",
    "#6b46c1",
)


def colours(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label; the same labels have the same colours in every figure."""
    return {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(dict.fromkeys(labels))}
