"""Proximal steps around any torch optimizer, which set weights to exactly zero."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsact._common.errors import InputError
from sparsact.hooks import assign_parameters
from sparsact.penalties.base_penalty import has_prox
from sparsact.penalties.coupled_groups import Spec, split_spec
from sparsact.penalties.sharded_parameters import gather

Group = Mapping[str, Any]
StepSize = Callable[[Group, Mapping[str, Any]], float | Tensor]


class Proximal(Optimizer):
    """An optimizer that applies the prox of a penalty to selected weights after every step.

    The optimizer uses the gradient of the loss without the penalty. The prox then minimises
    ``½‖u − w‖² + s·penalty(u)``, which sets entries to exactly 0. A parameter without a gradient
    does not change, as in the optimizer itself.

    The step size s is chosen so that a weight that no longer moves minimises ``loss + penalty``.
    It is the s in the update ``−s·gradient`` of an optimizer in its steady state:

    - SGD: ``s = lr·(1 − dampening)/(1 − momentum)``, because momentum adds up 1/(1 − momentum)
      gradients.
    - Adam, AdamW, RMSprop, Adagrad: ``s = lr/denominator``, one per entry, with the prox in the
      metric of the denominator. RMSprop with momentum also divides by 1 − momentum.

    With lr as the step size, the penalty would be weaker by 1 − momentum, or each entry would be
    weighted by its denominator.

    Args:
        optimizer: any torch optimizer; its parameter groups, state, schedulers and closures work
            through this object.
        model: the model, which gives the parameters their names.
        spec: glob on parameter names (``*`` also matches dots), or the result of
            :func:`sparsact.penalties.coupled_groups` → penalty that has a prox. A coefficient may
            be a schedule of the step, which this object counts.
        step_size: a callable from the group and state of a parameter to s; required for optimizers
            other than those above.

    Raises:
        ValueError: a pattern matches nothing, two patterns match the same parameter, a penalty
            has no prox, or a parameter is not in the optimizer.
        TypeError: the step size of this optimizer is not known, and `step_size` is None.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Linear(4, 2)
        >>> inner = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> optimizer = Proximal(inner, model, {"weight": sa.L1(100.0)})
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.nonzero()
        {'weight': 0}

    Source:
        Parikh & Boyd, "Proximal algorithms" (2014), section 4.2; Yun, Lozano & Yang, "Adaptive
        proximal gradient methods for structured neural networks" (2021), algorithm 1, for the
        metric.
    """

    # A GradScaler passes its scale to fused optimizers by attributes, which the wrapped optimizer
    # would not see, and lets them skip steps. With False, it unscales and skips steps itself.
    _step_supports_amp_scaling = False

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        spec: Spec,
        *,
        step_size: StepSize | None = None,
    ) -> None:  # without super().__init__(): groups and state are those of `optimizer`
        self.optimizer = optimizer
        self._groups, patterns = split_spec(spec)
        self._assigned = assign_parameters(model, patterns) if patterns or not self._groups else {}
        self._grouped = {
            name: (model.get_parameter(name), penalty)
            for groups, penalty in self._groups.items()
            for name in groups.names
        }
        self._steps = 0
        self._step_size = step_size or _known_step_size(optimizer)
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, (parameter, penalty) in {**self._grouped, **self._assigned}.items():
            if not has_prox(penalty):
                raise InputError(
                    f"{type(penalty).__name__} on {name!r} has no proximal operator; use it with "
                    "WeightPenalty"
                )
            if id(parameter) not in owned:
                raise InputError(f"parameter {name!r} is not in the optimizer")

    def step(self, closure: Any = None) -> Any:
        """Run the step of the optimizer, then the prox; return what the optimizer returns."""
        loss = self.optimizer.step(closure)
        self._shrink()
        self._steps += 1
        return loss

    def nonzero(self) -> dict[str, int]:
        """Parameter name → the number of its non-zero entries, over all its shards."""
        return {
            name: int(gather(torch.count_nonzero(parameter.detach())))
            for name, (parameter, _) in {**self._grouped, **self._assigned}.items()
        }

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of the wrapped optimizer."""
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The state of the wrapped optimizer."""
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The defaults of the wrapped optimizer."""
        return self.optimizer.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the wrapped optimizer."""
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The state of the wrapped optimizer, and the number of steps as ``"proximal_steps"``."""
        return {**self.optimizer.state_dict(), "proximal_steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, which may come from a plain optimizer."""
        self._steps = int(state_dict.get("proximal_steps", 0))
        self.optimizer.load_state_dict(
            {key: value for key, value in state_dict.items() if key != "proximal_steps"}
        )

    def __getattr__(self, name: str) -> Any:
        """All other attributes, such as step hooks, are those of the wrapped optimizer."""
        if name == "optimizer":  # it does not exist yet while unpickling
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __getstate__(self) -> dict[str, Any]:
        # a scheduler replaces `step` by a function that is bound to this object
        return {name: value for name, value in vars(self).items() if name != "step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        penalties = {name: penalty for name, (_, penalty) in self._assigned.items()}
        return f"Proximal({self.optimizer!r}, {self._groups | penalties})"

    @torch.no_grad()
    def _shrink(self) -> None:
        group_of = {id(p): group for group in self.param_groups for p in group["params"]}
        for parameter, penalty in self._assigned.values():
            if parameter.grad is not None:
                state = self.optimizer.state.get(parameter, {})
                step_size = self._step_size(group_of[id(parameter)], state)
                parameter.copy_(penalty.at(self._steps).prox(parameter, step_size))
        parameters = {name: parameter for name, (parameter, _) in self._grouped.items()}

        def step_size_of(name: str) -> float | Tensor:
            parameter = parameters[name]
            state = self.optimizer.state.get(parameter, {})
            return self._step_size(group_of[id(parameter)], state)

        for groups, penalty in self._groups.items():
            groups.shrink(parameters, penalty.at(self._steps), step_size_of)


def _known_step_size(optimizer: Optimizer) -> StepSize:
    for cls, step_size in _STEP_SIZES.items():
        if isinstance(optimizer, cls):
            return step_size
    raise TypeError(
        f"no step size is known for {type(optimizer).__name__}: pass step_size=, a callable from "
        "the group and state of a parameter to the factor between its steady gradient and its step"
    )


def _sgd(group: Group, state: Mapping[str, Any]) -> float:
    share: float = (1 - group["dampening"]) if group["momentum"] else 1.0
    return float(group["lr"]) * share / (1 - float(group["momentum"]))


def _adam(group: Group, state: Mapping[str, Any]) -> Tensor:
    mean_square: Tensor = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    correction = 1 - float(group["betas"][1]) ** float(state["step"])
    size: Tensor = float(group["lr"]) / (mean_square.sqrt() / math.sqrt(correction) + group["eps"])
    return size


def _rmsprop(group: Group, state: Mapping[str, Any]) -> Tensor:
    mean_square: Tensor = state["square_avg"]
    if group["centered"]:
        mean_square = mean_square - state["grad_avg"].square()
    lr = float(group["lr"]) / (1 - float(group["momentum"]))
    size: Tensor = lr / (mean_square.sqrt() + group["eps"])
    return size


def _adagrad(group: Group, state: Mapping[str, Any]) -> Tensor:
    total: Tensor = state["sum"]
    decay = 1 + (float(state["step"]) - 1) * float(group["lr_decay"])
    size: Tensor = float(group["lr"]) / decay / (total.sqrt() + group["eps"])
    return size


_STEP_SIZES: dict[type[Optimizer], StepSize] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,  # AdamW is a subclass
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}
