"""A target that moves from where a density is to where it should be."""

import math
from dataclasses import dataclass


@dataclass
class Approach:
    """Moves a target on a log scale, and can wait for a density that lags behind.

    A target that ran ahead of slow training would wind the controller up, and the density would
    overshoot. Units and gates that were closed too far often stay closed.

    Attributes:
        lag: the target stands still while ``|log(density/target)|`` exceeds this.
        start: the density in the first step.
        progress: from 0 at the start to 1 at the final target.

    Example:
        >>> approach = Approach()
        >>> [round(approach.next(1.0, density, 0.25, warmup=2), 2) for density in (1.0, 0.5, 0.25)]
        [0.5, 0.25, 0.25]
    """

    lag: float = 0.2
    start: float | None = None
    progress: float = 0.0

    def next(self, first: float, density: float, final: float, warmup: int) -> float:
        """The target of this step.

        Args:
            first: the density, if this is the first step.
            density: the running density; NaN in the first step.
            final: the final target.
            warmup: the least number of steps until then.
        """
        if self.start is None:
            self.start, density = first, first
        if self.start <= 0 or warmup == 0:
            self.progress = 1.0
        if self.progress < 1:
            now = self._target(final)
            behind = abs(math.log(max(density, 1e-9) / now))
            self.progress = min(1.0, self.progress + max(0.0, 1 - behind / self.lag) / warmup)
        return self._target(final)

    def _target(self, final: float) -> float:
        if self.progress >= 1 or self.start is None:
            return final
        return math.exp(
            (1 - self.progress) * math.log(self.start) + self.progress * math.log(final)
        )
