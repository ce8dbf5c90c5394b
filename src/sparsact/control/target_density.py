"""The controller that makes thresholds, penalties and gates reach a density."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact._common.processes import several_processes
from sparsact.control.gate_multiplier import GateMultiplier
from sparsact.control.knobs import TOLERANCE, CoefficientKnob, Knob, LevelKnob, device_of
from sparsact.hooks import (
    CallPattern,
    CallSelector,
    CallTaps,
    Removable,
    assign_calls,
    in_backward,
    outside_of_vmap,
)
from sparsact.penalties.activation_penalty import ActivationPenalty
from sparsact.thresholds.channel_gate import ChannelGate
from sparsact.thresholds.threshold_module import BandModule


class TargetDensity(Removable):
    """Makes selected activations, or gates, reach a density: the share that is not zero.

    What it moves depends on what a selector selects:

    - a call with a penalty in `penalty`: the coefficient of this penalty, a factor of the number or
      schedule that it has. Each call reaches the density.
    - a threshold of :mod:`sparsact.nn`: its mean |λ|. Of a learned λ per channel, training decides
      the ratios only. Each module reaches the density.
    - gates, such as ``nn.HardConcrete``: a multiplier of their expected number of open gates, which
      may be negative. All gates that one selector selects reach the density together, so a layer
      can be one gate. Move gates by SGD: Adam divides each gate's gradient by its size, most of
      which is the multiplier's, so all close at one speed and chance decides which stay open.

    Call :meth:`step` once per optimizer step. It uses the density of all training forwards since
    the step before, so gradient accumulation needs nothing; processes of ``torch.distributed`` add
    up their counts. For gates, add ``control()`` to the loss. The target moves from the first
    density to its final value during `warmup` steps, and waits while training lags behind. At the
    end :meth:`settle` measures held-out data, and sets thresholds and gates exactly. Padding
    counts.

    After :meth:`settle` thresholds and gates have their density on these data, up to ties and whole
    numbers. A coefficient acts by training only: within 2% is usual, not certain.

    A penalty can lower a density further than it rises again without it: closed units may stay
    closed. A density that the loss itself would not keep is not reached from below.

    Args:
        model: the model. Build the control before ``torch.compile``, as the penalty.
        spec: selector → density in (0, 1]; see :data:`sparsact.hooks.CallSelector`.
        penalty: the user's penalty on activations, if coefficients are to be moved.
        warmup: the least number of steps until the target has its final value.

    Raises:
        ValueError: a selector matches nothing, or something that has neither λ, nor coefficient,
            nor gates; two select the same; a density is outside (0, 1]; λ or a coefficient is 0.
        RuntimeError: the model is already compiled, or contains ``nn.DataParallel``.

    Example:
        >>> import sparsact as sa
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(8, 64), sa.nn.Softshrink(0.1))
        >>> control = sa.TargetDensity(model, {"1": 0.25}, warmup=20)
        >>> for _ in range(100):
        ...     _ = model(torch.randn(64, 8))  # and backward, and a step of the optimizer
        ...     control.step()
        >>> held_out = control.settle([torch.randn(256, 8)])
        >>> round(held_out["1"], 3)
        0.25
    """

    def __init__(
        self,
        model: nn.Module,
        spec: Mapping[CallSelector, float],
        *,
        penalty: ActivationPenalty | None = None,
        warmup: int = 200,
    ) -> None:
        if warmup < 0:
            raise InputError(f"warmup= must not be negative, got {warmup}")
        self.warmup = warmup
        self._model = model
        self._steps = 0
        self._measures = False
        self._counts: dict[str, Tensor] = {}
        self._totals: dict[str, int] = {}
        self._knobs: dict[str, Knob] = {}
        self._gates: dict[str, GateMultiplier] = {}
        self._has_term = True
        patterns = self._find_knobs(assign_calls(model, spec), penalty)
        self._names = [pattern.text for pattern in patterns]
        self._taps = CallTaps(model, patterns, self._see) if patterns else None

    def __call__(self) -> Tensor:
        """Return the term of the gates, a scalar to add to the loss; 0 if there are no gates."""
        self._has_term = True
        terms = [gate.term() for gate in self._gates.values()]
        if not terms:
            return torch.zeros((), device=device_of(self._model))
        return torch.stack([term.to(terms[0]) for term in terms]).sum()

    def step(self) -> None:
        """Move λ, coefficients and multipliers; call it after each step of the optimizer.

        Raises:
            RuntimeError: no training forward of a controlled call has run since the last step, or
                there are gates and the control was not added to the loss.
        """
        if self._gates and not self._has_term:
            raise RuntimeError(
                "the control was not called since its last step: add control() to the loss, which "
                "closes the gates"
            )
        densities = self._read()
        if self._knobs and not densities:
            raise RuntimeError(
                f"none of {', '.join(map(repr, self._knobs))} has run in a training forward since "
                "the last step: call the model first (compile it after the control is built)"
            )
        self._steps += 1
        for name, density in densities.items():
            self._knobs[name].update(density, self.warmup)
        for gate in self._gates.values():
            gate.update(self.warmup)
        self._has_term = False

    @torch.no_grad()
    def settle(
        self, batches: Iterable[Any], forward: Callable[[Any], object] | None = None
    ) -> dict[str, float]:
        """Measure the densities on held-out data in eval mode, and set what can be set exactly.

        Thresholds get the λ that gives their density on these data, one after the other in the
        order of the model. Of gates the right number stays open. A coefficient acts by training
        only: from now on its density in training is aimed at what gives the target here, so call
        this once per epoch.

        Args:
            batches: held-out batches; all are kept in memory.
            forward: runs the model on a batch. By default ``model(batch)``, or ``model(batch[0])``
                for a tuple or list.

        Returns:
            name → density on `batches`; of gates the share that is open. Misses of more than 2%
            are named in a warning.
        """
        kept = list(batches)
        run = forward or self._run
        for gate in self._gates.values():
            gate.settle()
        with self._evaluating():
            for name, knob in self._knobs.items():
                if isinstance(knob, LevelKnob):
                    knob.fit(self._inputs_of(name, kept, run))
            self._clear()
            for batch in kept:
                run(batch)
            densities = self._read()
        for name, knob in self._knobs.items():
            if isinstance(knob, CoefficientKnob) and name in densities:
                knob.correct(densities[name])
        densities |= {name: gate.held_out for name, gate in self._gates.items()}
        self._warn_of_misses(densities)
        return densities

    @property
    def densities(self) -> dict[str, float]:
        """Name → running density in training; of gates the expected share of open gates."""
        return {name: knob.density for name, knob in (self._knobs | self._gates).items()}

    @property
    def values(self) -> dict[str, float]:
        """Name → mean |λ|, factor of the coefficient, or multiplier."""
        return {name: knob.value for name, knob in (self._knobs | self._gates).items()}

    def state_dict(self) -> dict[str, Any]:
        """The steps, and the state of all that is moved. λ and gates are in the model's own."""
        knobs = {name: knob.state_dict() for name, knob in (self._knobs | self._gates).items()}
        return {"steps": self._steps, "knobs": knobs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: `state` was saved with other selectors.
        """
        knobs = self._knobs | self._gates
        if state["knobs"].keys() != knobs.keys():
            raise InputError(
                f"the state belongs to {sorted(state['knobs'])}, but this controls {sorted(knobs)}"
            )
        self._steps = int(state["steps"])
        for name, knob in knobs.items():
            knob.load_state_dict(state["knobs"][name])

    def remove(self) -> None:
        """Remove the hooks; λ, coefficients and gates stay as they are."""
        if self._taps is not None:
            self._taps.remove()

    def _find_knobs(
        self, assigned: list[tuple[CallPattern, float]], penalty: ActivationPenalty | None
    ) -> list[CallPattern]:
        """Find what moves each pattern; return the patterns whose calls are measured."""
        measured = []
        gates: dict[str, tuple[float, list[ChannelGate]]] = {}
        for pattern, target in assigned:
            if not 0 < target <= 1:
                raise InputError(f"{pattern.source}: a density must lie in (0, 1], got {target}")
            module = next(iter(pattern.modules.values()), None)
            if penalty is not None and pattern.text in penalty.penalties:
                self._knobs[pattern.text] = CoefficientKnob(pattern.text, target, penalty)
            elif isinstance(module, BandModule):
                device = device_of(self._model)
                self._knobs[pattern.text] = LevelKnob(pattern.text, target, module, device)
            elif isinstance(module, ChannelGate):
                gates.setdefault(pattern.source.strip("'"), (target, []))[1].append(module)
                continue
            else:
                raise InputError(_nothing_to_move(pattern, module, penalty))
            measured.append(pattern)
        self._gates = {name: GateMultiplier(name, *found) for name, found in gates.items()}
        return measured

    def _see(self, site: str, index: int, activation: Tensor) -> None:
        training = self._model.training and torch.is_grad_enabled()
        if in_backward() or not (training or self._measures):
            return
        name, x = self._names[index], activation.detach()
        if not torch.compiler.is_compiling():
            x, _ = outside_of_vmap(x, 0)
        count = torch.count_nonzero(x)
        before = self._counts.get(name)
        self._counts[name] = count if before is None else before + count.to(before)
        self._totals[name] = self._totals.get(name, 0) + x.numel()

    def _read(self) -> dict[str, float]:
        """The densities since the last reading, over all processes."""
        names = list(self._knobs)
        if not names:
            return {}
        device = next((count.device for count in self._counts.values()), device_of(self._model))
        zero = torch.zeros((), device=device)
        counts = [self._counts.get(name, zero).to(device) for name in names]
        totals = torch.tensor([self._totals.get(name, 0) for name in names], device=device)
        both = torch.stack([torch.stack(counts).long(), totals.long()])
        if several_processes():
            dist.all_reduce(both)
        self._clear()
        columns = zip(names, both[0].tolist(), both[1].tolist(), strict=True)
        return {name: count / total for name, count, total in columns if total}

    def _clear(self) -> None:
        self._counts.clear()
        self._totals.clear()

    def _inputs_of(
        self, name: str, batches: list[Any], run: Callable[[Any], object]
    ) -> list[Tensor]:
        inputs: list[Tensor] = []
        knob = self._knobs[name]
        assert isinstance(knob, LevelKnob)
        hook = knob.module.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        try:
            for batch in batches:
                run(batch)
        finally:
            hook.remove()
        return inputs

    def _run(self, batch: Any) -> object:
        return self._model(batch[0] if isinstance(batch, (tuple, list)) else batch)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """A block in which forwards run in eval mode and are counted, and no others."""
        modes = {module: module.training for module in self._model.modules()}
        pending = dict(self._counts), dict(self._totals)
        self._clear()
        self._model.eval()
        self._measures = True
        try:
            yield
        finally:
            self._measures = False
            self._counts, self._totals = pending
            for module, mode in modes.items():
                module.training = mode

    def _warn_of_misses(self, densities: dict[str, float]) -> None:
        targets = {name: knob.target for name, knob in (self._knobs | self._gates).items()}
        misses = [
            f"{name!r} has {density:.3g} instead of {targets[name]:.3g}"
            for name, density in densities.items()
            if abs(density / targets[name] - 1) > TOLERANCE
        ]
        if misses:
            warnings.warn(f"held-out density: {', '.join(misses)}", stacklevel=3)


def _nothing_to_move(
    pattern: CallPattern, module: nn.Module | None, penalty: ActivationPenalty | None
) -> str:
    kind = "a function" if module is None else type(module).__name__
    known = "" if penalty is None else f"; penalty= is on {', '.join(map(repr, penalty.penalties))}"
    return (
        f"{pattern.text!r} ({kind}) has no λ, coefficient or gate to move: select a threshold with "
        f"a dead band, a gate, or a call with a penalty in penalty={known}"
    )
