"""Axes of drawings: a range of values and its ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_SMALLEST = 1e-300  # a range below it has no digits for ticks
PADDING = 0.05
"""Room beside the values, as a share of their range."""


@dataclass(frozen=True)
class Axis:
    """A range of values.

    Attributes:
        low: the value at the left or at the bottom.
        high: the value at the right or at the top.
        ticks: (value, text).
        title: what is measured.
        logarithmic: whether equal ratios have equal lengths.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str = ""
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`."""
        if self.logarithmic:
            if value <= 0:
                return -math.inf
            low, high, value = map(math.log10, (self.low, self.high, value))
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low)


def linear_axis(
    values: Iterable[float],
    title: str = "",
    *,
    percent: bool = False,
    zero: bool = False,
    whole: bool = False,
    padding: float = PADDING,
    most: int = 6,
) -> Axis:
    """An axis around the finite values.

    Args:
        values: what it has to show.
        title: what is measured.
        percent: whether the values are shares.
        zero: whether 0 belongs to the axis.
        whole: whether only whole numbers have ticks.
        padding: room beside the values, as a share of their range; none below `zero`.
        most: at most about this many ticks.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = padding * (high - low)
    if high - low < _SMALLEST:
        room = abs(low) / 10 if abs(low) > 10 * _SMALLEST else 0.5
    low = low if zero and low == 0 else low - room
    high += room
    return Axis(low, high, _linear_ticks(low, high, percent, whole, most), title)


def _linear_ticks(
    low: float, high: float, percent: bool, whole: bool, most: int
) -> tuple[tuple[float, str], ...]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    factor = 100 if percent else 1
    decimals = max(0, -math.floor(math.log10(step * factor) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [i * step for i in range(first, last + 1)]
    return tuple((v, f"{v * factor:.{decimals}f}{'%' if percent else ''}") for v in values)


def logarithmic_axis(values: Iterable[float], title: str = "") -> Axis:
    """An axis from the tick below the positive values to the tick above them.

    A range under two decades has ticks at 1, 2 and 5, a longer one at the decades.
    """
    positive = [value for value in values if 0 < value < math.inf] or [1.0]
    low, high = min(positive), max(positive)
    multiples = (1, 2, 5) if high < 100 * low else (1,)
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    ticks = [float(f"{multiple}e{exponent}") for exponent in exponents for multiple in multiples]
    first, last = max(t for t in ticks if t <= low), min(t for t in ticks if t > high)
    shown = [tick for tick in ticks if first <= tick <= last]
    return Axis(first, last, tuple((t, f"{t:g}") for t in shown), title, logarithmic=True)


def named_axis(names: Iterable[str], title: str = "") -> Axis:
    """An axis with a place for each name, at 0, 1, …, the first one at the top."""
    ticks = tuple((float(i), name) for i, name in enumerate(names))
    return Axis(len(ticks) - 0.4, -0.6, ticks, title)
