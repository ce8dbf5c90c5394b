"""Turning the λ, k or penalty of a setting towards a density."""

import math
from collections.abc import Sequence
from dataclasses import replace

from sparsact.compare.settings.compared_activations import Knob
from sparsact.compare.settings.compared_penalties import Strength
from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.trial_record import TrialRecord

Seen = Sequence[tuple[float, float]]
"""Values that were tried and their densities, the latest last."""

RANGES: dict[Knob, tuple[float, float]] = {
    "lambd": (1e-3, 10.0),
    "strength": (1e-6, 1.0),
    "k": (1e-4, 1.0),
}
SLOPES: dict[Knob, float] = {"lambd": -1.0, "strength": -0.5, "k": 1.0}
"""How the logarithm of the density usually changes with that of the value."""
LARGEST_STEPS: dict[Knob, float] = {"lambd": 3.0, "strength": 10.0, "k": 10.0}
"""A value is multiplied by at most this."""
SLOPE_SPREAD = 5.0
LEAST_DENSITY = 1e-6


def rounded(value: float) -> float:
    """To four digits, so that the label shows all of it."""
    return float(f"{value:.4g}")


def turn(setting: Setting, value: float, knob: Knob | None = None) -> Setting:
    """The setting with another λ, k or strength; by default what its activation is tuned by."""
    value = rounded(value)
    if (knob or setting.kind.knob) != "strength":
        return replace(setting, level=value)
    penalty = setting.penalty or Strength("l1", value)
    return replace(setting, penalty=replace(penalty, value=value))


def at_end(setting: Setting, record: TrialRecord) -> Setting:
    """The setting with the λ, k or penalty that its training ended with."""
    return setting if record.value is None else turn(setting, record.value)


def value_of(setting: Setting) -> float | None:
    """The λ, k or strength of a setting; None without a penalty."""
    if setting.kind.knob != "strength":
        return setting.level
    return None if setting.penalty is None else setting.penalty.value


def next_value(knob: Knob, seen: Seen, target: float) -> float:
    """Where the density should be `target`: on the line through the last two points, in logs."""
    value, density = seen[-1]
    density = max(density, LEAST_DENSITY)
    slope = SLOPES[knob]
    if len(seen) > 1:
        value_before, density_before = seen[-2]
        change = math.log(density / max(density_before, LEAST_DENSITY))
        distance = math.log(value / value_before)
        ratio = change / (distance * slope) if distance else 1.0
        slope *= min(max(ratio, 1 / SLOPE_SPREAD), SLOPE_SPREAD)
    limit = math.log(LARGEST_STEPS[knob])
    step = min(max(math.log(target / density) / slope, -limit), limit)
    return rounded(within_range(knob, value * math.exp(step)))


def within_range(knob: Knob, value: float) -> float:
    """The nearest value that is tried."""
    low, high = RANGES[knob]
    return min(max(value, low), high)
