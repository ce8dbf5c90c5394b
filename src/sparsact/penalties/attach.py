"""Hanging penalties on the activations and the weights of a model."""

from collections.abc import Mapping
from types import TracebackType

import torch
from torch import Tensor, nn

from sparsact.nn.activity import Reduction, check_reduction, divisor
from sparsact.penalties.penalty import Penalty
from sparsact.taps import Selector, Site, Taps, assign_modules, assign_parameters, in_backward


class ActivationPenalty:
    """Penalties on the activations of chosen modules, read by hook.

    The penalty is computed inside the hook, so no activation is held beyond what autograd keeps.
    It stands for the last forward of the model; a module called outside a forward of the model
    stands for its own last call.

    Args:
        model: the model; its code and its modules stay as they are.
        spec: selector → penalty; see :data:`sparsact.taps.Selector`.
        reduction: ``"batch_mean"`` (sum divided by the size of dim 0), ``"sum"``, ``"mean"``, or
            ``"token_mean"`` (sum divided by the number of positions: every dim but the last).
        on: penalise each module's ``"output"`` or its ``"input"``.
        accumulate: add up every forward until the value is read, instead of the last one only.

    Raises:
        ValueError: a selector matches nothing, or two match the same module.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> penalty = sa.ActivationPenalty(model, {"1": sa.L1(1e-3)})
        >>> loss = model(torch.randn(16, 4)).square().mean() + penalty()
        >>> loss.backward()
        >>> penalty.remove()
    """

    def __init__(
        self,
        model: nn.Module,
        spec: Mapping[Selector, Penalty],
        reduction: Reduction = "batch_mean",
        *,
        on: Site = "output",
        accumulate: bool = False,
    ) -> None:
        check_reduction(reduction)
        assigned = assign_modules(model, spec)
        self.penalties = {name: penalty for name, (_, penalty) in assigned.items()}
        self.reduction: Reduction = reduction
        self.accumulate = accumulate
        self._model = model
        self._values: dict[str, Tensor] = {}
        self._has_run = False
        self._inside = False
        self._taps = Taps({name: module for name, (module, _) in assigned.items()}, self._see, on)
        self._taps.handles.append(model.register_forward_pre_hook(self._start, prepend=True))
        self._taps.handles.append(model.register_forward_hook(self._end, always_call=True))

    def __call__(self) -> Tensor:
        """The penalty of the last forward: a float32 scalar to add to the loss. Clears it.

        It is 0 after a forward in eval mode or without gradients.

        Raises:
            RuntimeError: the model has not run since the last reading.
        """
        if not self._has_run:
            raise RuntimeError(
                "no forward has run since the penalty was last read: call the model first"
            )
        values = list(self._values.values())
        self._clear()
        if not values:
            return torch.zeros(())
        return torch.stack([value.to(values[0]) for value in values]).sum()

    def remove(self) -> None:
        """Take the hooks away; the model is as it was."""
        self._taps.remove()
        self._clear()

    def __enter__(self) -> "ActivationPenalty":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def _clear(self) -> None:
        self._values.clear()
        self._has_run = False

    def _start(self, module: nn.Module, args: object) -> None:
        if in_backward():
            return
        self._inside = True
        if not self.accumulate:
            self._values.clear()
        self._has_run = True

    def _end(self, module: nn.Module, args: object, output: object) -> None:
        self._inside = False

    def _see(self, name: str, activation: Tensor) -> None:
        if not self._model.training or not torch.is_grad_enabled():
            self._has_run = True
            return
        value = self.penalties[name](activation) / divisor(activation, self.reduction)
        if in_backward():  # a checkpoint recomputes: the same operations, counted once
            return
        self._has_run = True
        adds_up = self.accumulate or self._inside
        if adds_up and name in self._values:
            value = self._values[name] + value
        self._values[name] = value


class WeightPenalty:
    """Penalties on chosen parameters, at their current values.

    Args:
        model: the model.
        spec: glob on parameter names (``*`` crosses dots) → penalty.

    Raises:
        ValueError: a pattern matches nothing, or two match the same parameter.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Linear(4, 2)
        >>> penalty = sa.WeightPenalty(model, {"weight": sa.L2(1e-4)})
        >>> loss = model(torch.randn(3, 4)).square().mean() + penalty()
    """

    def __init__(self, model: nn.Module, spec: Mapping[str, Penalty]) -> None:
        self._model = model
        self.penalties = {
            name: penalty for name, (_, penalty) in assign_parameters(model, spec).items()
        }

    def __call__(self) -> Tensor:
        """The sum of the penalties on the parameters: a scalar to add to the loss."""
        values = [
            penalty(self._model.get_parameter(name)) for name, penalty in self.penalties.items()
        ]
        return torch.stack([value.to(values[0]) for value in values]).sum()
