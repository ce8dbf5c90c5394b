"""Hanging penalties on the activations of a model."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from sparsact.hooks import (
    Removable,
    Selector,
    Site,
    Taps,
    assign_modules,
    check_hookable,
    in_backward,
)
from sparsact.nn.activity import Reduction, check_reduction, divisor, inject
from sparsact.penalties.mask import Mask, check_mask_type, kept_divisor
from sparsact.penalties.penalty import Penalty

Mode = Literal["loss", "inject"]

_LATE = (
    " (torch.compile ignores hooks that come after its first call: hang the penalty on the model, "
    "then compile it)"
)


class ActivationPenalty(Removable):
    """Penalties on the activations of chosen modules, read by hook.

    The penalty is computed inside the hook, so no activation is held beyond what autograd keeps.
    It stands for the last forward of the model; a module called outside a forward of the model
    stands for its own last call. A module used several times in one forward counts each time.

    In mode ``"loss"`` you add ``penalty()`` to the loss. In mode ``"inject"`` the gradient joins
    the backward pass by itself and the training loop stays as it is; ``penalty()`` is then a
    number to log. Both give equal gradients.

    Copies of the model, by ``copy.deepcopy`` or pickling, carry no hooks. Hang penalties on the
    model before ``torch.compile``; with activation checkpoints inside a model that is compiled
    with ``fullgraph=True``, set the flag that torch's error then names,
    ``torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint``: a penalty counts once.

    Args:
        model: the model; its code and its modules stay as they are.
        spec: selector → penalty; see :data:`sparsact.hooks.Selector`. A coefficient may be a
            schedule, any callable of the step: call :meth:`step` once per optimizer step.
        reduction: ``"batch_mean"`` (sum divided by the size of dim 0), ``"sum"``, ``"mean"``, or
            ``"token_mean"`` (sum divided by the number of positions: every dim but the last).
            Under DistributedDataParallel gradients are averaged over equal shards, so the means
            over samples equal those of one process on the joined batch, while ``"sum"`` is
            divided by the number of processes. KLSparsity is the mean of each shard's own. The
            same holds under FSDP2's ``fully_shard``, before or after which penalties may be hung.
        on: penalise each module's ``"output"`` or its ``"input"``.
        select: picks the tensor to penalise: called with the module's output, or with its
            inputs. By default it is the first tensor in them.
        mode: ``"loss"`` or ``"inject"``.
        scale: for ``"inject"``, what the loss itself is multiplied by before backward, which the
            hook cannot know: a number, or a callable read at each forward, such as
            ``scaler.get_scale`` or ``lambda: 1 / accumulation_steps``.
        accumulate: add up every forward until the value is read, instead of the last one only. In
            mode ``"loss"`` their graphs are kept until then: that is what is asked for.

    Raises:
        ValueError: a selector matches nothing, or two match the same module.
        RuntimeError: the model is compiled already, or holds ``nn.DataParallel``; at a forward,
            a penalised module runs inside reentrant checkpointing, in mode ``"loss"``.

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
        select: Callable[..., Tensor] | None = None,
        mode: Mode = "loss",
        scale: float | Callable[[], float] = 1.0,
        accumulate: bool = False,
    ) -> None:
        check_reduction(reduction)
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {get_args(Mode)}, got {mode!r}")
        check_hookable(model)
        assigned = assign_modules(model, spec)
        self.penalties = {name: penalty for name, (_, penalty) in assigned.items()}
        self.reduction: Reduction = reduction
        self.mode: Mode = mode
        self.scale = scale
        self.accumulate = accumulate
        self._model = model
        self._mask: Mask | None = None
        self._current_mask: Tensor | None = None
        self._values: dict[str, Tensor] = {}
        self._has_run = False
        self._inside = False
        self._seen = False
        self._compiled = False
        self._set_step(0)
        modules = {name: module for name, (module, _) in assigned.items()}
        self._taps = Taps(modules, self._see, on, select)
        self._taps.around(model, self._start, self._end)

    def __call__(self) -> Tensor:
        """The penalty of the last forward: a float32 scalar to add to the loss. Clears it.

        It is 0 after a forward in eval mode or without gradients. In mode ``"inject"`` it
        carries no gradient.

        Raises:
            RuntimeError: the model has not run since the last reading, or was compiled before
                the penalty was hung on it.
        """
        if not self._has_run:
            raise RuntimeError(
                f"no forward has run since the penalty was last read: call the model first{_LATE}"
            )
        if self._compiled and not self._seen:
            raise RuntimeError(f"no penalised module was seen in the compiled forward{_LATE}")
        values = list(self._values.values())
        self._clear()
        if not values:
            return torch.zeros(())
        return torch.stack([value.to(values[0]) for value in values]).sum()

    def set_mask(self, mask: Mask | None) -> None:
        """Leave padding out, from the next forward on.

        Args:
            mask: True (or 1) at the positions to keep, over the leading dims of every
                activation, as (batch, tokens): or a callable that takes what the model is
                called with and returns that, or None. ``None`` keeps everything. It stays until
                it is replaced; a checkpoint that recomputes reads it once more in backward.
        """
        check_mask_type(mask)
        self._mask = mask
        self._current_mask = mask if isinstance(mask, Tensor) else None

    def step(self) -> None:
        """Count an optimizer step: coefficients that are schedules take their next value."""
        self._set_step(self._step + 1)

    @property
    def coefficients(self) -> dict[str, float]:
        """Module name → its coefficient at this step."""
        return {name: float(level) for name, level in self._levels.items()}

    def state_dict(self) -> dict[str, Any]:
        """The step, which determines every coefficient, and these for the record."""
        return {"step": self._step, "coefficients": self.coefficients}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the step of `state`.

        Raises:
            ValueError: `state` was saved with penalties on other modules.
        """
        if state["coefficients"].keys() != self.penalties.keys():
            raise ValueError(
                f"the state is of penalties on {sorted(state['coefficients'])}, these are on "
                f"{sorted(self.penalties)}"
            )
        self._set_step(int(state["step"]))

    def remove(self) -> None:
        """Take the hooks away; the model is as it was."""
        self._taps.remove()
        self._clear()

    def _clear(self) -> None:
        self._values.clear()
        self._has_run = False

    def _set_step(self, step: int) -> None:
        """A schedule's level is a tensor: a compiled model need not be compiled again."""
        self._step = step
        present = {name: penalty.at(step) for name, penalty in self.penalties.items()}
        self._levels = {
            name: torch.tensor(penalty.coefficient, dtype=torch.float64)
            for name, penalty in present.items()
        }
        self._units = {
            name: penalty.with_coefficient(1.0) if callable(penalty.coefficient) else penalty
            for name, penalty in self.penalties.items()
        }

    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if in_backward():
            return
        self._inside = True
        self._seen = False
        self._compiled = torch.compiler.is_compiling()
        if not self.accumulate:
            self._values.clear()
        self._has_run = True
        if callable(self._mask) and not isinstance(self._mask, Tensor):
            self._current_mask = self._mask(*args, **kwargs)
            check_mask_type(self._current_mask)

    def _end(self, module: nn.Module, args: object, output: object) -> None:
        self._inside = False

    def _see(self, name: str, activation: Tensor) -> Tensor | None:
        self._seen = True
        recomputing = in_backward()  # a checkpoint: the same operations, counted once
        if not self._model.training or not torch.is_grad_enabled():
            self._rest(name, recomputing)
            return None
        value = self._evaluate(name, activation)
        if not recomputing:
            self._record(name, value.detach() if self.mode == "inject" else value)
        if self.mode == "loss" or not value.requires_grad:
            return None
        scale = self.scale() if callable(self.scale) else self.scale
        return inject(activation, value * scale)

    def _rest(self, name: str, recomputing: bool) -> None:
        if self.mode == "loss" and self._model.training and _inside_reentrant_checkpoint():
            raise RuntimeError(
                f"module {name!r} runs inside reentrant checkpointing, where a penalty captured "
                "in forward has no gradient: pass use_reentrant=False to the checkpoint, or "
                'mode="inject" to the penalty'
            )
        if not recomputing:
            self._has_run = True

    def _evaluate(self, name: str, activation: Tensor) -> Tensor:
        penalty, mask = self._units[name], self._current_mask
        try:
            if mask is None:
                value = penalty(activation) / divisor(activation, self.reduction)
            else:
                total = penalty.masked(activation, mask)
                value = total / kept_divisor(activation, mask, self.reduction)
        except ValueError as error:
            raise ValueError(f"at module {name!r}: {error}") from error
        if penalty is self.penalties[name]:
            return value
        return value * self._levels[name].to(value.dtype)

    def _record(self, name: str, value: Tensor) -> None:
        self._has_run = True
        adds_up = self.accumulate or self._inside
        if adds_up and name in self._values:
            value = self._values[name] + value
        self._values[name] = value


def _inside_reentrant_checkpoint() -> bool:
    """Whether the caller runs in the forward of ``checkpoint(..., use_reentrant=True)``."""
    if torch.compiler.is_compiling():
        return False
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            return True
        frame = frame.f_back
    return False
