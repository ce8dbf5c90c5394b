"""The multiplier of the expected number of open gates: an augmented Lagrangian."""

import warnings
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from sparsact.control.approach import Approach
from sparsact.control.coefficient_controller import CoefficientController
from sparsact.control.knobs import TOLERANCE
from sparsact.thresholds.channel_gate import ChannelGate, open_gates_

_STIFFNESS = 10.0
_UNIT = 0.03
_LARGEST = 1e8


class GateMultiplier:
    """Makes the gates of several modules together reach a density.

    With ``e = log(density/target)`` of the expected density it adds ``μ·e + ½ρe²`` to the loss,
    where ``μ = 0.03·(c − 1/c)/2`` and ``ρ = 10·(|μ| + 0.03)``. The coefficient c starts at 1 and
    moves on a log scale. So μ finds the scale of the loss, and may become negative to open gates.

    Args:
        name: the pattern of the gates.
        target: the share of open gates.
        modules: the gates.

    Source:
        Nocedal & Wright, "Numerical optimization" (2006), section 17.3; Wang, Wohlwend & Lei,
        "Structured pruning of large language models" (2020), eq. 6, for gates.
    """

    def __init__(self, name: str, target: float, modules: list[ChannelGate]) -> None:
        self.name, self.modules = name, modules
        self.number = sum(gate.num_parameters for gate in modules)
        self.count = max(1, round(target * self.number))
        self.target = self.count / self.number
        self.control = CoefficientController(1.0, self.target, rate=0.1, gain=2.0, horizon=50)
        self.approach = Approach()
        self._has_warned = False
        if abs(self.target / target - 1) > TOLERANCE:
            warnings.warn(
                f"{self.number} gates of {name!r} cannot have the density {target:g}: aiming at "
                f"{self.count} open gates, {self.target:.3g}",
                stacklevel=4,
            )

    @property
    def density(self) -> float:
        """The expected share of open gates in training."""
        with torch.no_grad():
            return float(self._expected())

    @property
    def held_out(self) -> float:
        """The share of gates that are open in evaluation."""
        counts = [(gate.location > gate.closed_up_to).sum() for gate in self.modules]
        return sum(int(count) for count in counts) / self.number

    @property
    def value(self) -> float:
        """The multiplier μ."""
        return _UNIT * (self.control.value - 1 / self.control.value) / 2

    def term(self) -> Tensor:
        """What to add to the loss: a scalar with a gradient to the gates."""
        expected = self._expected()
        if self.control.smoothed is None or self.control.target is None:
            return expected * 0.0
        excess = (expected.clamp(min=1e-6) / self.control.target).log()
        stiffness = _STIFFNESS * (abs(self.value) + _UNIT)
        return self.value * excess + 0.5 * stiffness * excess.square()

    def update(self, warmup: int) -> None:
        """Move the multiplier after a step."""
        density = self.density
        self.control.target = self.approach.next(density, density, self.target, warmup)
        self.control.update(density)
        self.control.coefficient = max(1 / _LARGEST, min(_LARGEST, self.control.coefficient))
        if self.control.coefficient in (_LARGEST, 1 / _LARGEST) and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the gates of {self.name!r} have density {density:.3g} whatever the multiplier: "
                f"{self.target:g} is out of reach (are they trained, and is the control in the "
                "loss?)",
                stacklevel=3,
            )

    def settle(self) -> None:
        """Open or close gates so that exactly the target is open in evaluation."""
        open_gates_(self.modules, self.count)

    def state_dict(self) -> dict[str, Any]:
        """The numbers that change in training."""
        return {"control": asdict(self.control), "approach": asdict(self.approach)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which :meth:`state_dict` returned."""
        self.control = CoefficientController(**state["control"])
        self.approach = Approach(**state["approach"])

    def _expected(self) -> Tensor:
        counts = [gate.expected_l0() for gate in self.modules]
        return torch.stack([count.to(counts[0]) for count in counts]).sum() / self.number
