"""The end of a run: the target is set, and the autoencoder measured."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sparsact.sae.data.activation_rows import Rows
from sparsact.sae.evaluation.reconstruction_metrics import SAEMetrics, evaluate
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.training.run_notes import run_notes
from sparsact.sae.training.sae_trainer import SAETrainer


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        autoencoder: the trained autoencoder.
        metrics: the figures on held-out activations.
        train_fvu: FVU on as many activations of the training.
        passes: how often each activation was used.
        notes: what is wrong with the result, if anything: a line each.
    """

    autoencoder: SparseAutoencoder
    metrics: SAEMetrics
    train_fvu: float
    passes: float
    notes: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """What ``metrics.json`` holds."""
        figures = dataclasses.asdict(self.metrics) | {"density": self.metrics.density.tolist()}
        comparison = {"train_fvu": self.train_fvu, "passes": self.passes}
        return figures | comparison | {"notes": list(self.notes)}


def finish(trainer: SAETrainer, rows: Rows, held_out: Tensor, batch_size: int) -> RunResult:
    """Set L0 to its target, and measure.

    Args:
        trainer: after its last step.
        rows: the activations of the training.
        held_out: (n, d_in). With a target, one half sets it, and the other is measured.
        batch_size: rows of a training step, and of those that are measured together.
    """
    if trainer.config.target_l0 is not None:
        trainer.reach_target(held_out[::2])
        held_out = held_out[1::2]
    sae = trainer.autoencoder()
    metrics = evaluate(sae, held_out.split(batch_size))
    metrics = dataclasses.replace(metrics, dead=trainer.latents.dead_share)
    seen = rows.sample(len(held_out), trainer.config.seed)
    train_fvu = evaluate(sae, seen.split(batch_size)).fvu
    passes = trainer.steps * batch_size / rows.total
    notes = run_notes(metrics, train_fvu, passes, trainer)
    return RunResult(sae, metrics, train_fvu, passes, tuple(notes))
