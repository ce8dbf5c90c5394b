"""Penalties and a meter in the Trainer of Lightning."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from sparsact._common.tested_versions import warn_if_untested
from sparsact.integrations.tensorboard import write_histograms
from sparsact.integrations.training_instruments import Instruments
from sparsact.integrations.wandb import log_histograms
from sparsact.meters import SparsityMeter
from sparsact.penalties import ActivationPenalty


class LightningCallback(Callback):
    """Adds penalties to a ``lightning.pytorch.Trainer``, and a meter to its logs.

    The gradients are those of ``loss + penalty()``, also with ``accumulate_grad_batches`` and with
    the loss scale of ``precision="16-mixed"``. With manual optimization, only the loss scale is
    applied, because the trainer does not know about accumulation. Schedules follow the
    ``global_step`` of the trainer, also when it resumes from a checkpoint or fits again: a second
    fit of the same trainer continues, a new trainer starts at 0. The hooks are removed when the
    fit ends or fails, and attached again when the next one starts. Without a logger, nothing is
    logged.

    Every ``log_every_n_steps`` optimizer steps, all loggers of the trainer get the penalty of the
    last forward, the coefficients, and for each layer the density, L0, share of dead units and
    mean magnitude since the last log or validation. TensorBoard and W&B also get histograms.

    Args:
        penalties: one or several :class:`sparsact.ActivationPenalty`, in mode ``"inject"``.
            Attach them to the module whose forward ``training_step`` calls. The forward of the
            LightningModule itself does not run if ``training_step`` calls a module inside it.
        meter: a :class:`sparsact.SparsityMeter` to log.

    Raises:
        ValueError: a penalty is in mode ``"loss"``. When a fit starts: a penalty or the meter
            was built for another model.

    Example:
        >>> import sparsact as sa
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        >>> penalty = sa.ActivationPenalty(model, {nn.ReLU: sa.L1(1e-3)}, mode="inject")
        >>> trainer = Trainer(
        ...     callbacks=LightningCallback(penalty, sa.SparsityMeter(model, nn.ReLU)),
        ...     logger=False,
        ...     accelerator="cpu",
        ... )
    """

    def __init__(
        self,
        penalties: ActivationPenalty | Iterable[ActivationPenalty] = (),
        meter: SparsityMeter | None = None,
    ) -> None:
        warn_if_untested("lightning")
        self._instruments = Instruments(penalties, meter)
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the step of the penalties, and the factor by which losses are scaled."""
        self._last_step = trainer.global_step
        automatic = pl_module.automatic_optimization

        def scale() -> float:
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            loss_scale = 1.0 if scaler is None else float(scaler.get_scale())
            return loss_scale / (trainer.accumulate_grad_batches if automatic else 1)

        self._instruments.start(pl_module, trainer.global_step, scale)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count an optimizer step, if there was one, and log."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        if trainer.loggers and trainer.global_step % trainer.log_every_n_steps == 0:
            self._log(trainer)
        self._instruments.step()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the forwards of a validation from the logs."""
        self._instruments.end_evaluation()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hooks."""
        self._instruments.remove()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Remove the hooks."""
        self._instruments.remove()

    def _log(self, trainer: Trainer) -> None:
        scalars, stats = self._instruments.report()
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)
            if hasattr(logger.experiment, "add_histogram_raw"):
                write_histograms(logger.experiment, stats, trainer.global_step)
            if isinstance(logger, WandbLogger):
                step = {"trainer/global_step": trainer.global_step}
                log_histograms(logger.experiment, stats, step)
