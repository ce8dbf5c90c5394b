"""Penalties and a meter inside the Trainer of transformers."""

from collections.abc import Iterable
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import WandbCallback

from sparsact._common.tested_versions import warn_if_untested
from sparsact.integrations.hung import Hung
from sparsact.integrations.tensorboard import write_histograms
from sparsact.integrations.wandb import log_histograms
from sparsact.meters import SparsityMeter
from sparsact.penalties import ActivationPenalty


class TransformersCallback(TrainerCallback):
    """Penalties in a ``transformers.Trainer``, and a meter in its logs.

    Build the penalties on the model, then put the callback into the trainer with :meth:`attach`
    (and not through ``Trainer(callbacks=...)``, which tells a callback neither how the loss is
    scaled nor where the logs go). The gradients are those of ``loss + penalty()`` under gradient
    accumulation, whose micro-batches count equally, and under the loss scale of float16.
    Schedules follow the trainer's ``global_step``, also after a resumed checkpoint. When training
    ends, the hooks are removed.

    Every log of the training loss also gets, for every tracker of the trainer, the penalty of the
    last forward, the coefficients, and per layer the density, L0, share of dead units and mean
    magnitude since the last log or evaluation; TensorBoard and W&B also get histograms.

    Args:
        penalties: one or several :class:`sparsact.ActivationPenalty`, in mode ``"inject"``.
        meter: a :class:`sparsact.SparsityMeter` to log.

    Raises:
        ValueError: a penalty is in mode ``"loss"``.
        RuntimeError: when training begins, the callback was not attached.

    Example:
        >>> import sparsact as sa
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        >>> penalty = sa.ActivationPenalty(model, {nn.ReLU: sa.L1(1e-3)}, mode="inject")
        >>> callback = TransformersCallback(penalty, sa.SparsityMeter(model, nn.ReLU))
        >>> # callback.attach(Trainer(model, ...)).train()
    """

    def __init__(
        self,
        penalties: ActivationPenalty | Iterable[ActivationPenalty] = (),
        meter: SparsityMeter | None = None,
    ) -> None:
        warn_if_untested("transformers")
        self._hung = Hung(penalties, meter)
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> Trainer:
        """Put the callback in front of the trainer's own, whose logs it adds to."""
        self._trainer = trainer
        trainer.callback_handler.callbacks.insert(0, self)
        return trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over the step and tell the penalties how losses are scaled."""
        if self._trainer is None:
            raise RuntimeError(
                "put the callback into the trainer with callback.attach(trainer), not through "
                "Trainer(callbacks=...)"
            )
        self._hung.start(state.global_step, self._scale)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count an optimizer step."""
        self._hung.step()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the forwards of an evaluation out of what is logged."""
        self._hung.forget()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """Add to the log of a training loss."""
        if "loss" not in logs:
            return
        scalars, stats = self._hung.report()
        logs.update(scalars)
        state.log_history[-1].update(scalars)
        assert self._trainer is not None
        for callback in self._trainer.callback_handler.callbacks:
            writer = getattr(callback, "tb_writer", None)
            if writer is not None:
                write_histograms(writer, stats, state.global_step)
            if isinstance(callback, WandbCallback):
                step = {"train/global_step": state.global_step}
                log_histograms(callback._wandb.run, stats, step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the hooks away."""
        self._hung.remove()

    def _scale(self) -> float:
        """Of a mean over micro-batches, times the loss scale of float16.

        The trainer divides a loss by the number of micro-batches, or, where the loss is a sum
        over tokens, by their number in all micro-batches: a penalty is averaged either way.
        """
        assert self._trainer is not None
        scaler = self._trainer.accelerator.scaler
        loss_scale = 1.0 if scaler is None else float(scaler.get_scale())
        batches: int = self._trainer.current_gradient_accumulation_steps
        return loss_scale / batches
