"""What a density is controlled by: the λ of a threshold, or the coefficient of a penalty."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.control.approach import Approach
from sparsact.control.coefficient_controller import CoefficientController
from sparsact.penalties.activation_penalty import ActivationPenalty
from sparsact.penalties.sharded_parameters import gather
from sparsact.thresholds.threshold_module import BandModule

TOLERANCE = 0.02
_REACH = 1e5
_FULL_STEPS = 50
_CORRECTION = 2.0


class Knob(ABC):
    """Abstract base: a positive number that is moved until a density is reached.

    Attributes:
        name: the call whose output has the density.
        target: the density to be reached on held-out data.
        correction: the density in training over the held-out one, at the last measurement.
        approach: moves the target from the first density to its final value.
    """

    kind: ClassVar[str]
    gains: ClassVar[dict[str, float]]
    lag: ClassVar[float] = 0.2

    def __init__(self, name: str, target: float, level: float) -> None:
        self.name, self.target, self.correction = name, target, 1.0
        self.approach = Approach(self.lag)
        self._initial = level
        self._has_warned = False
        self.control = CoefficientController(level, target, floor=target / 100, **self.gains)

    @abstractmethod
    def apply(self, value: float) -> None:
        """Make `value` the λ or the factor of the coefficient."""

    @property
    def density(self) -> float:
        """The running density of the training forwards; NaN before the first step."""
        return math.nan if self.control.smoothed is None else math.exp(self.control.smoothed)

    @property
    def value(self) -> float:
        """The λ or the factor of the coefficient."""
        return self.control.value

    def update(self, density: float, warmup: int) -> None:
        """Move after a step in which `density` was measured."""
        aim = min(self.target * self.correction, 1.0)
        self.control.target = self.approach.next(density, self.density, aim, warmup)
        self.control.update(density)
        low, high = self._initial / _REACH, self._initial * _REACH
        if not low < self.control.coefficient < high:
            self.control.coefficient = min(max(self.control.coefficient, low), high)
            end = "smallest" if self.control.coefficient == low else "largest"
            self.warn(f"is {density:.3g} at the {end} {self.kind} that is tried")
        self.apply(self.control.value)

    def warn(self, what: str) -> None:
        """Say once that the target is out of reach."""
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the density of {self.name!r} {what}: {self.target:g} is out of reach",
                stacklevel=4,
            )

    def correct(self, held_out: float) -> None:
        """Aim at the density in training that belongs to the target on held-out data."""
        if self.control.smoothed is not None and held_out > 0:
            ratio = self.density / held_out
            self.correction = min(max(ratio, 1 / _CORRECTION), _CORRECTION)

    def state_dict(self) -> dict[str, Any]:
        """The numbers that change in training."""
        return {
            "control": asdict(self.control),
            "approach": asdict(self.approach),
            "correction": self.correction,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which :meth:`state_dict` returned."""
        self.control = CoefficientController(**state["control"])
        self.approach = Approach(**state["approach"])
        self.correction = state["correction"]
        self.apply(self.control.value)


class LevelKnob(Knob):
    """The mean of the levels |λ| of a threshold; training decides their ratios only."""

    kind = "λ"
    gains: ClassVar = {"rate": 0.1, "gain": 0.25, "horizon": 10}
    lag = math.inf  # λ acts at once

    def __init__(
        self, name: str, target: float, module: BandModule, device: torch.device | None
    ) -> None:
        self.module = module
        module.hold_as_tensors(device)
        level = self._mean()
        if not 0 < level < math.inf:
            raise InputError(
                f"λ of {name!r} is {level:g}, which no factor moves: start from a positive λ, for "
                "example by init_from"
            )
        super().__init__(name, target, level)

    @torch.no_grad()
    def apply(self, value: float) -> None:
        """Scale all levels so that their mean is `value`."""
        mean = self._mean()
        if mean == 0:
            getattr(self.module, self.module.level_names[0]).fill_(value)
            return
        for name in self.module.level_names:
            getattr(self.module, name).mul_(value / mean)

    @torch.no_grad()
    def fit(self, inputs: list[Tensor]) -> None:
        """Set λ so that the outputs for `inputs` have the target density, by bisection."""
        low, high = self._initial / _REACH, self._initial * _REACH
        for _ in range(50):
            middle = math.sqrt(low * high)
            self.apply(middle)
            outputs = [type(self.module).forward(self.module, x) for x in inputs]
            nonzero = sum(int(torch.count_nonzero(output)) for output in outputs)
            if nonzero > self.target * sum(output.numel() for output in outputs):
                low = middle
            else:
                high = middle
        self.control.coefficient = math.sqrt(low * high)
        self.control.smoothed = None
        self.apply(self.control.coefficient)

    def _mean(self) -> float:
        """The mean of all finite levels: of the first alone, training would move the others."""
        held = [getattr(self.module, name).detach().abs() for name in self.module.level_names]
        means = [float(gather(level.mean())) for level in held]
        finite = [mean for mean in means if mean < math.inf]
        return sum(finite) / len(finite) if finite else math.inf


class CoefficientKnob(Knob):
    """A factor of the coefficient, number or schedule, of one penalty of an ActivationPenalty."""

    kind = "factor of the coefficient"
    gains: ClassVar = {"rate": 0.06, "gain": 4.0, "drift_rate": 1e-4, "horizon": 100}

    def __init__(self, name: str, target: float, penalty: ActivationPenalty) -> None:
        super().__init__(name, target, 1.0)
        term = penalty.penalties[name]
        if term.coefficient == 0:
            raise InputError(f"the coefficient of {name!r} is 0, which no factor moves")
        self._full = 0
        self._penalty = penalty
        self._factor = _Factor(term.coefficient)
        penalty.penalties[name] = term.with_coefficient(self._factor)
        self.apply(1.0)

    def apply(self, value: float) -> None:
        """Multiply the coefficient by `value`."""
        self._factor.value = value
        self._penalty.load_state_dict(self._penalty.state_dict())  # it reads its coefficients anew

    def update(self, density: float, warmup: int) -> None:
        """Move as other knobs do, but stand still while nothing has ever been zero."""
        self._full = self._full + 1 if density == 1 and self._full >= 0 else -1
        if self._full >= _FULL_STEPS:
            self.warn("was 1 in all steps so far, so a penalty alone makes no zeros there")
            return
        super().update(density, warmup)


class _Factor:
    """A schedule: a coefficient times a number that changes."""

    def __init__(self, base: float | Callable[[int], float]) -> None:
        self.base, self.value = base, 1.0

    def __call__(self, step: int) -> float:
        return self.value * (self.base(step) if callable(self.base) else self.base)


def device_of(model: nn.Module) -> torch.device | None:
    """The device of the first parameter of a model."""
    return next((parameter.device for parameter in model.parameters()), None)
