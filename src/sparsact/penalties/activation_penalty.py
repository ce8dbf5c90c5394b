"""Penalties on the activations of a model."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from sparsact._common.errors import InputError
from sparsact.hooks import (
    CallSelector,
    CallTaps,
    Removable,
    Site,
    assign_calls,
    call_patterns,
    explain_missing,
    in_backward,
    outside_of_vmap,
    replaced_modules,
    unseen,
)
from sparsact.penalties.activity_layer import inject
from sparsact.penalties.base_penalty import Penalty
from sparsact.penalties.padding_mask import Mask, check_mask_type
from sparsact.penalties.reduction import Reduction, check_reduction, divisor, kept_divisor

Mode = Literal["loss", "inject"]

_LATE = (
    " (torch.compile ignores hooks added after its first call: attach the penalty to the model, "
    "then compile it)"
)


class ActivationPenalty(Removable):
    """Penalties on the activations of selected modules, computed in forward hooks.

    The penalty is computed inside the hook, so it holds no activation that autograd does not keep
    anyway. Its value belongs to the last forward of the model. A module that is called outside a
    forward of the model counts with its own last call. A module that runs several times in one
    forward counts each time, unless the pattern selects a call, as ``block.act#2`` does.

    In mode ``"loss"``, you add ``penalty()`` to the loss. In mode ``"inject"``, the gradient joins
    the backward pass by itself, so the training loop does not change, and ``penalty()`` is a
    number to log. Both modes give equal gradients.

    Copies of the model, made by ``copy.deepcopy`` or pickling, have no hooks. Attach penalties to
    the model before ``torch.compile``. If a model with activation checkpoints is compiled with
    ``fullgraph=True``, torch raises an error that names the flag
    ``torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint``. Set this flag; the
    penalty then still counts once.

    Args:
        model: the model; its code and its modules do not change.
        spec: selector of modules or calls → penalty; see :data:`sparsact.hooks.CallSelector`. A
            coefficient may be a schedule, that is any callable of the step: call :meth:`step` once
            per optimizer step.
        reduction: ``"batch_mean"`` divides the sum by the size of dim 0, ``"token_mean"`` by the
            number of positions (every dim but the last), ``"mean"`` by the number of entries, and
            ``"sum"`` by nothing. DistributedDataParallel averages the gradients of equal shards:
            means over samples equal those of one process on the joined batch, ``"sum"`` is
            divided by the number of processes, and KLSparsity becomes the mean of the values of
            the shards. The same holds under FSDP2; penalties may be attached before or after
            ``fully_shard``.
        on: penalise the ``"output"`` or the ``"input"`` of each module.
        select: a function that selects the tensor to penalise. It is called with the output of
            the module, or with its inputs. By default, their first tensor is used.
        mode: ``"loss"`` or ``"inject"``.
        scale: for ``"inject"``: the factor that multiplies the loss before backward, which a hook
            cannot know. A number, or a callable that is read at each forward, such as
            ``scaler.get_scale`` or ``lambda: 1 / accumulation_steps``.
        accumulate: add up all forwards until the value is read, instead of using the last one
            only. Mode ``"loss"`` keeps their graphs until then.

    Raises:
        ValueError: a selector matches nothing, or two selectors match the same call.
        RuntimeError: the model is already compiled, or contains ``nn.DataParallel``. At a forward
            in mode ``"loss"``: a penalised module runs inside reentrant checkpointing. At the
            first reading: nothing that a selector selects has run.

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
        spec: Mapping[CallSelector, Penalty],
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
            raise InputError(f"mode= must be one of {get_args(Mode)}, got {mode!r}")
        assigned = assign_calls(model, spec)
        self.penalties = {pattern.text: penalty for pattern, penalty in assigned}
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
        self._seen: set[str] = set()
        self._has_warned = False
        self._compiled = False
        self._set_step(0)
        self._selected = call_patterns(model, list(spec))
        self._patterns = [pattern for pattern, _ in assigned]
        around = self._start, self._end
        self._taps = CallTaps(model, self._patterns, self._see, on, select, around)

    def __call__(self) -> Tensor:
        """Return the penalty of the last forward, a float32 scalar to add to the loss; clear it.

        It is 0 after a forward in eval mode or without gradients. In mode ``"inject"`` it has no
        gradient.

        Raises:
            RuntimeError: the model has not run since the value was last read, or was compiled
                before the penalty was attached; or nothing that a selector selects has ever run;
                or a selected module is no longer in the model.
        """
        if not self._has_run:
            raise RuntimeError(
                f"no forward has run since the penalty was last read: call the model first{_LATE}"
            )
        if self._compiled and not self._seen:
            raise RuntimeError(f"no penalised module ran its hook in the compiled forward{_LATE}")
        self._check_seen()
        values = list(self._values.values())
        self._clear()
        if not values:
            return torch.zeros(())
        return torch.stack([value.to(values[0]) for value in values]).sum()

    def set_mask(self, mask: Mask | None) -> None:
        """Exclude padding from the penalty, from the next forward on.

        Args:
            mask: True (or 1) at the positions to keep, over the leading dims of every activation,
                such as (batch, tokens). Or a callable that takes the inputs of the model and
                returns such a tensor or None. ``None`` keeps everything. The mask is used until
                it is replaced; a checkpoint that recomputes in backward reads it again.
        """
        check_mask_type(mask)
        self._mask = mask
        self._current_mask = mask if isinstance(mask, Tensor) else None

    def step(self) -> None:
        """Count an optimizer step: scheduled coefficients take their next value."""
        self._set_step(self._step + 1)

    @property
    def coefficients(self) -> dict[str, float]:
        """Name of the module, or pattern of calls → its coefficient at this step."""
        return {name: float(value) for name, value in self._coefficients.items()}

    def state_dict(self) -> dict[str, Any]:
        """The step, which determines all coefficients, and their values for the record."""
        return {"step": self._step, "coefficients": self.coefficients}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the step in `state`.

        Raises:
            ValueError: `state` was saved with penalties on other modules.
        """
        if state["coefficients"].keys() != self.penalties.keys():
            raise InputError(
                f"the state belongs to penalties on {sorted(state['coefficients'])}, but these "
                f"are on {sorted(self.penalties)}"
            )
        self._set_step(int(state["step"]))

    def attach(self) -> None:
        """Install the hooks again after :meth:`remove`; while they are installed, do nothing.

        Raises:
            RuntimeError: the model is compiled meanwhile, or contains ``nn.DataParallel``.
        """
        self._taps.attach()

    def remove(self) -> None:
        """Remove the hooks; the model is unchanged."""
        self._taps.remove()
        self._clear()

    def watches(self, model: nn.Module) -> bool:
        """Whether the penalty is on `model`, on a part of it, or on a model that contains it."""
        return self._taps.watches(model)

    def _clear(self) -> None:
        self._values.clear()
        self._seen.clear()
        self._has_run = False

    def _check_seen(self) -> None:
        """Raise if a penalty is 0 because what it names was not there; warn of a part, once."""
        if len(self._seen) == len(self._patterns):
            return
        missing = [pattern for pattern in self._patterns if pattern.text not in self._seen]
        if replaced := replaced_modules(self._model, missing):
            raise RuntimeError(
                f"the penalty does not see {', '.join(map(repr, replaced))}, replaced in the model "
                "after the penalty was attached: attach it to the final model"
            )
        if lost := self._taps.lost_hooks():
            raise RuntimeError(
                f"the hooks of the penalty on {', '.join(map(repr, lost))} were removed from the "
                "model: attach the penalty again"
            )
        never = unseen(self._selected, self._taps.ran)
        if absent := [pattern for pattern in self._selected if pattern.is_unseen(self._taps.ran)]:
            raise RuntimeError(
                "the penalty is on calls that have not run"
                f"{explain_missing(self._model, absent)}: it would be 0"
            )
        if never and not self._has_warned:
            self._has_warned = True
            explanation = explain_missing(self._model, never)
            warnings.warn(f"the penalty saw a part of what it names{explanation}", stacklevel=3)

    def _set_step(self, step: int) -> None:
        """Set the coefficients; they are tensors so that a compiled model is not compiled again."""
        self._step = step
        present = {name: penalty.at(step) for name, penalty in self.penalties.items()}
        self._coefficients = {
            name: torch.tensor(penalty.coefficient, dtype=torch.float64, device="cpu")
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
        self._seen.clear()
        self._compiled = torch.compiler.is_compiling()
        if not self.accumulate:
            self._values.clear()
        self._has_run = True
        if callable(self._mask) and not isinstance(self._mask, Tensor):
            self._current_mask = self._mask(*args, **kwargs)
            check_mask_type(self._current_mask)

    def _end(self, module: nn.Module, args: object, output: object) -> None:
        self._inside = False

    def _see(self, site: str, index: int, activation: Tensor) -> Tensor | None:
        name = self._patterns[index].text
        self._seen.add(name)
        recomputing = in_backward()  # a checkpoint recomputes; the first pass counted
        if not self._model.training or not torch.is_grad_enabled():
            self._skip(name, recomputing)
            return None
        value = self._evaluate(name, activation)
        if not recomputing:
            self._record(name, _logged(value) if self.mode == "inject" else value)
        if self.mode == "loss" or not value.requires_grad:
            return None
        scale = self.scale() if callable(self.scale) else self.scale
        return inject(activation, value * scale)

    def _skip(self, name: str, recomputing: bool) -> None:
        if self.mode == "loss" and self._model.training and _inside_reentrant_checkpoint():
            raise RuntimeError(
                f"{name!r} runs inside reentrant checkpointing, where a penalty computed "
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
            raise InputError(f"at {name!r}: {error}") from error
        if penalty is self.penalties[name]:
            return value
        return value * self._coefficients[name].to(value.dtype)

    def _record(self, name: str, value: Tensor) -> None:
        self._has_run = True
        adds_up = self.accumulate or self._inside
        if adds_up and name in self._values:
            value = self._values[name] + value
        self._values[name] = value


def _logged(value: Tensor) -> Tensor:
    """A value to log, which outlives ``torch.func.vmap``: there, the sum over its examples."""
    value = value.detach()
    if torch.compiler.is_compiling():
        return value
    return outside_of_vmap(value, 0)[0].sum()


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
