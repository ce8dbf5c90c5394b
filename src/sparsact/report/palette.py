"""Colours that the page and the pictures share."""

from collections.abc import Iterable

INK = "#1f2933"
FRONT = "#d64545"
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
    """A colour per label, the same in every figure."""
    return {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(dict.fromkeys(labels))}
