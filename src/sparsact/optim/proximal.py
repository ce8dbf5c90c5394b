"""The optimizer that applies a prox after every step of another one."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsact._common.errors import InputError
from sparsact.hooks import assign_parameters
from sparsact.optim.gradients import check_gradients
from sparsact.optim.step_sizes import StepSize, example_step, steady_step, step_size_rule
from sparsact.penalties.base_penalty import Penalty, has_prox
from sparsact.penalties.coupled_groups import CoupledGroups, Spec, split_spec
from sparsact.penalties.sharded_parameters import gather


class Proximal(Optimizer):
    """An optimizer that applies the prox of a penalty to selected weights after every step.

    The optimizer uses the gradient of the loss without the penalty. The prox then minimises
    ``½‖u − w‖² + s·penalty(u)``, which sets entries to exactly 0. A parameter without a gradient
    does not change, as in the optimizer itself.

    The step size s is chosen so that a weight that no longer moves minimises ``loss + penalty``.
    It is the s in the update ``−s·gradient`` of an optimizer in its steady state:

    - SGD: ``s = lr·(1 − dampening)/(1 − momentum)``, because momentum adds up 1/(1 − momentum)
      gradients.
    - Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, Adafactor: ``s =
      lr/denominator``, one per entry, with the prox in the metric of the denominator. RMSprop
      with momentum also divides by 1 − momentum. NAdam, RAdam and Adafactor also have the
      factors of their own formulas. Adadelta has its accumulated updates instead of the 1 over
      the denominator.

    With lr as the step size, the penalty would be weaker by 1 − momentum, or each entry would be
    weighted by its denominator.

    A complex weight is shrunk by modulus. All but SGD have their own step sizes for its real and
    its imaginary part; then the penalty must be L1, L2, ElasticNet or GroupLasso.

    A NaN or infinite gradient raises before anything changes: weights, state and step counters.
    This reads one number per step from an accelerator. A ``GradScaler`` skips such steps itself.

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
            has no prox, or a parameter is not in the optimizer. At a step: a gradient is NaN or
            infinite.
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
        self._step_size = step_size
        self._rule = step_size_rule(optimizer) if step_size is None else None
        self._named = dict(model.named_parameters())
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, (parameter, penalty) in {**self._grouped, **self._assigned}.items():
            if not has_prox(penalty):
                raise InputError(
                    f"{type(penalty).__name__} on {name!r} has no proximal operator; use it with "
                    "WeightPenalty"
                )
            if id(parameter) not in owned:
                raise InputError(f"parameter {name!r} is not in the optimizer")
        for name in self._assigned:
            self._try_prox(name)

    def step(self, closure: Any = None) -> Any:
        """Run the step of the optimizer, then the prox; return what the optimizer returns.

        Raises:
            ValueError: a gradient is NaN or infinite. Nothing has changed then.
        """
        penalties = {name: penalty.at(self._steps) for name, (_, penalty) in self._assigned.items()}
        grouped = {groups: penalty.at(self._steps) for groups, penalty in self._groups.items()}
        if closure is None:
            check_gradients(self.optimizer, self._named)
            loss = self.optimizer.step()
        else:
            loss = self._step_with(closure)
        self._shrink(penalties, grouped)
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

    def _step_with(self, closure: Callable[[], Any]) -> Any:
        """Run a step whose closure is checked; undo it if the closure fails its check."""
        # the optimizers that have a rule call their closure once, before anything changes
        before = _Snapshot(self.optimizer) if self._rule is None else None
        failed = False

        def checked() -> Any:
            nonlocal failed
            loss = closure()
            failed = True
            check_gradients(self.optimizer, self._named)
            failed = False
            return loss

        try:
            return self.optimizer.step(checked)
        except InputError:
            if before is not None and failed:
                before.restore()
            raise

    @torch.no_grad()
    def _try_prox(self, name: str) -> None:
        """Raise what the prox raises: in a step, the weights would have moved already."""
        parameter, penalty = self._assigned[name]
        try:
            penalty.at(0).prox(parameter, example_step(self._rule, parameter))
        except InputError as error:
            raise InputError(f"at parameter {name!r}: {error}") from error

    @torch.no_grad()
    def _shrink(
        self, penalties: Mapping[str, Penalty], grouped: Mapping[CoupledGroups, Penalty]
    ) -> None:
        group_of = {id(p): group for group in self.param_groups for p in group["params"]}

        def step_size_of(name: str) -> float | Tensor:
            parameter = self._named[name]
            return self._step_size_at(parameter, group_of[id(parameter)])

        for name, (parameter, _) in self._assigned.items():
            if parameter.grad is not None:
                size = self._step_size_at(parameter, group_of[id(parameter)])
                parameter.copy_(penalties[name].prox(parameter, size))
        parameters = {name: parameter for name, (parameter, _) in self._grouped.items()}
        for groups, penalty in grouped.items():
            groups.shrink(parameters, penalty, step_size_of)

    def _step_size_at(self, parameter: Tensor, group: dict[str, Any]) -> float | Tensor:
        state = self.optimizer.state.get(parameter, {})
        if self._step_size is not None:
            return self._step_size(group, state)
        assert self._rule is not None
        return steady_step(self._rule, group, state, parameter)


class _Snapshot:
    """The weights and the state of an optimizer that calls its closure several times."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._weights = [p.detach().clone() for p in self._parameters]
        self._state = {key: copy.deepcopy(value) for key, value in optimizer.state.items()}

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, weight in zip(self._parameters, self._weights, strict=True):
            parameter.copy_(weight)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)
