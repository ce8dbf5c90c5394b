"""Penalties and a meter in the Trainer of transformers."""

from collections.abc import Iterable
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import WandbCallback

from sparsact._common.tested_versions import warn_if_untested
from sparsact.integrations.tensorboard import write_histograms
from sparsact.integrations.training_instruments import Instruments
from sparsact.integrations.wandb import log_histograms
from sparsact.meters import SparsityMeter
from sparsact.penalties import ActivationPenalty


class TransformersCallback(TrainerCallback):
    """Adds penalties to a ``transformers.Trainer``, and a meter to its logs.

    Attach the penalties to the model, then add the callback to the trainer with :meth:`attach`.
    ``Trainer(callbacks=...)`` does not work: it gives a callback neither the scale of the loss nor
    the destination of the logs. The gradients are those of ``loss + penalty()``, also with the
    loss scale of float16 and with gradient accumulation, where micro-batches have equal weights.
    Schedules follow the ``global_step`` of the trainer, also when it resumes from a checkpoint.
    A second ``train()`` starts at 0 again, and a new trainer can be attached, as in
    cross-validation. The hooks are removed when training ends, and attached again when the next
    one starts. If a training fails, they stay.

    Every log of the training loss also contains the penalty of the last forward, the coefficients,
    and for each layer the density, L0, share of dead units and mean magnitude since the last log
    or evaluation, for all trackers of the trainer. TensorBoard and W&B also get histograms.

    Args:
        penalties: one or several :class:`sparsact.ActivationPenalty`, in mode ``"inject"``.
        meter: a :class:`sparsact.SparsityMeter` to log.

    Raises:
        ValueError: a penalty is in mode ``"loss"``. When training starts: a penalty or the meter
            was built for another model.
        RuntimeError: training begins and the callback was not attached.

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
        self._instruments = Instruments(penalties, meter)
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> Trainer:
        """Insert the callback before those of the trainer, so that it can add to their logs."""
        self._trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.callback_handler.callbacks.insert(0, self)
        return trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the step of the penalties, and the factor by which losses are scaled."""
        if self._trainer is None or self._trainer.state is not state:
            raise RuntimeError(
                "add the callback to the trainer with callback.attach(trainer), not with "
                "Trainer(callbacks=...); to return to an earlier trainer, attach it again"
            )
        self._instruments.start(self._trainer.model, state.global_step, self._scale)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count an optimizer step."""
        self._instruments.step()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Exclude the forwards of an evaluation from the logs."""
        self._instruments.end_evaluation()

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
        scalars, stats = self._instruments.report()
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
        """Remove the hooks."""
        self._instruments.remove()

    def _scale(self) -> float:
        """The loss scale of float16, divided by the number of micro-batches.

        The trainer divides a loss by the number of micro-batches or, if the loss is a sum over
        tokens, by the number of tokens in all micro-batches. Penalties are averaged over
        micro-batches in both cases.
        """
        assert self._trainer is not None
        scaler = self._trainer.accelerator.scaler
        loss_scale = 1.0 if scaler is None else float(scaler.get_scale())
        batches: int = self._trainer.current_gradient_accumulation_steps
        return loss_scale / batches
