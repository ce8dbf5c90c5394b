"""Penalties on the weights of a model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.hooks import assign_parameters
from sparsact.penalties.coupled_groups import Spec, split_spec
from sparsact.penalties.sharded_parameters import gather


class WeightPenalty:
    """Penalties on selected parameters, at their current values.

    A parameter that ``torch.distributed.fsdp.fully_shard`` has sharded is penalised as one
    parameter: every process gets the same value, and the gradient of its own shard.

    Args:
        model: the model.
        spec: glob on parameter names (``*`` also matches dots), or the result of
            :func:`coupled_groups` → penalty. A coefficient may be a schedule, that is any callable
            of the step: call :meth:`step` once per optimizer step.

    Raises:
        ValueError: a pattern matches nothing, or two match the same parameter.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Linear(4, 2)
        >>> penalty = sa.WeightPenalty(model, {"weight": sa.L2(1e-4)})
        >>> loss = model(torch.randn(3, 4)).square().mean() + penalty()
    """

    def __init__(self, model: nn.Module, spec: Spec) -> None:
        self._model = model
        self._step = 0
        self.groups, patterns = split_spec(spec)
        self.penalties = (
            {name: penalty for name, (_, penalty) in assign_parameters(model, patterns).items()}
            if patterns or not self.groups
            else {}
        )

    def __call__(self) -> Tensor:
        """The sum of the penalties on the parameters: a scalar to add to the loss."""
        values = [
            gather(penalty.at(self._step)(self._model.get_parameter(name)))
            for name, penalty in self.penalties.items()
        ]
        values += [
            groups.value(self._model, penalty.at(self._step))
            for groups, penalty in self.groups.items()
        ]
        return torch.stack([value.to(values[0]) for value in values]).sum()

    def step(self) -> None:
        """Count an optimizer step: scheduled coefficients take their next value."""
        self._step += 1

    def state_dict(self) -> dict[str, Any]:
        """The step, which determines all coefficients."""
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the step in `state`."""
        self._step = int(state["step"])
