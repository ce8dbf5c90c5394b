"""The colours of all pages and pictures."""

from collections.abc import Iterable

INK = "#1f2933"
MUTED = "#52606d"
FAINT = "#9aa5b1"
LINE = "#e4e7eb"
STRONG_LINE = "#cbd2d9"
FRONT = "#d64545"
HIGHLIGHT = "#fdf3f2"
PAPER = "#ffffff"
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
ROLES = {
    "ink": (INK, "#e4e7eb"),
    "muted": (MUTED, "#a9b4c0"),
    "faint": (FAINT, "#6b7785"),
    "line": (LINE, "#2b333c"),
    "strong-line": (STRONG_LINE, "#46515d"),
    "front": (FRONT, "#f0837f"),
    "highlight": (HIGHLIGHT, "#35262a"),
    "paper": (PAPER, "#14181d"),
}
"""What a page calls its colours: on white paper, and in dark mode."""


def colours(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label; the same labels have the same colours in every figure."""
    return {label: PALETTE[i] for label, i in _numbers(labels).items()}


def classes(labels: Iterable[str]) -> dict[str, str]:
    """The class of a page's style sheet that has the colour of each label."""
    return {label: f"c{i}" for label, i in _numbers(labels).items()}


def variables(dark: bool) -> str:
    """CSS that gives each colour its name, for white paper or for dark mode."""
    roles = [f"--{name}:{pair[dark]};" for name, pair in ROLES.items()]
    palette = [f"--c{i}:{_light(c) if dark else c};" for i, c in enumerate(PALETTE)]
    shade = "--shade:.55;" if dark else "--shade:1;"  # of coloured grounds: text stays readable
    return "".join([*roles, *palette, shade])


def _numbers(labels: Iterable[str]) -> dict[str, int]:
    return {label: i % len(PALETTE) for i, label in enumerate(dict.fromkeys(labels))}


def _light(colour: str, share: float = 0.4) -> str:
    """A colour mixed with white, for a dark ground."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)
