"""An integral controller of a coefficient on a log scale."""

import math
from dataclasses import dataclass

_FASTEST = 0.005


@dataclass
class CoefficientController:
    """Adjusts a penalty's coefficient, or λ, so that the active entries near a target.

    An integral controller on the logarithm: each step multiplies the coefficient by
    ``exp(rate·log(active/target))``, with the error clipped to ±1. A proportional part, which does
    not accumulate, keeps them from overshooting a target that it approaches quickly.

    Attributes:
        coefficient: the integral part.
        target: target number or share of active entries, or None to keep the coefficient fixed.
        rate: rate of the integral part, per step.
        gain: gain of the proportional part.
        drift_rate: rate of a second integral, for a coefficient that has to change steadily.
        smoothed: running mean of the logarithm of what is active.
        horizon: number of steps ahead for which the running mean is predicted.
        floor: fewer active entries count as this many.
        slope: the change of the running mean per step.
        drift: the second integral: the change of the logarithm per step.

    Example:
        >>> control = CoefficientController(1e-3, target=10.0)
        >>> control.update(20.0)
        >>> control.value > 1e-3
        True
    """

    coefficient: float
    target: float | None
    rate: float = 0.03
    gain: float = 2.0
    smoothed: float | None = None
    floor: float = 1e-3
    drift_rate: float = 0.0
    drift: float = 0.0
    horizon: float = 0.0
    slope: float = 0.0

    @property
    def value(self) -> float:
        """The coefficient of the next step."""
        return self.coefficient * math.exp(self.gain * self._error())

    def update(self, active: float) -> None:
        """Update the coefficient with the mean number, or share, of active entries in a step."""
        if self.target is None:
            return
        now = math.log(max(active, self.floor))
        before = now if self.smoothed is None else self.smoothed
        self.smoothed = now if self.smoothed is None else 0.9 * self.smoothed + 0.1 * now
        self.slope = 0.9 * self.slope + 0.1 * (self.smoothed - before)
        error = self._error()
        self.drift = max(-_FASTEST, min(_FASTEST, self.drift + self.drift_rate * error))
        self.coefficient *= math.exp(self.rate * error + self.drift)

    def _error(self) -> float:
        if self.target is None or self.smoothed is None:
            return 0.0
        predicted = self.smoothed + self.horizon * self.slope
        return max(-1.0, min(1.0, predicted - math.log(self.target)))
