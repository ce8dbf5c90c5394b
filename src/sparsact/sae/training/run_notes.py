"""What a user should know about a finished run, in single lines."""

from collections.abc import Iterator

from sparsact.sae.evaluation.reconstruction_metrics import SAEMetrics
from sparsact.sae.training.sae_trainer import SAETrainer
from sparsact.sae.training.schedule import QUIET_SHARE

OFF_TARGET = 0.05
"""Relative deviation from the expected L0 above which it is reported."""

DENSE = 0.1
"""Share of active latents above which a code without a target is called dense."""

OVERFITTING = 1.25
"""Ratio of held-out to training FVU above which a run is called overfitted."""


def run_notes(
    metrics: SAEMetrics, train_fvu: float, passes: float, trainer: SAETrainer
) -> Iterator[str]:
    """What is wrong with the result of a run, in single lines.

    Args:
        metrics: the figures on held-out activations.
        train_fvu: FVU on activations of the training.
        passes: how often each of those was used.
        trainer: after its last step.
    """
    steps, every = trainer.steps, trainer.config.resample_every
    yield from _l0_notes(metrics, trainer)
    if metrics.fvu > OVERFITTING * train_fvu:
        yield (
            f"overfitting: FVU is {metrics.fvu:.3g} on held-out activations and {train_fvu:.3g} on "
            f"those of the training, each used {passes:.3g} times. More activations help, or fewer "
            "--steps, or a smaller --d-sae"
        )
    if every and (steps - every) * QUIET_SHARE < steps:
        yield (
            f"no latents were resampled: --resample-every {every} leaves no step before the last "
            f"fifth of the {steps} steps"
        )
    if trainer.skipped:
        yield f"{trainer.skipped} of {steps} steps were skipped: their gradient was not finite"


def _l0_notes(metrics: SAEMetrics, trainer: SAETrainer) -> Iterator[str]:
    l0, config, target = metrics.l0, trainer.sae.config, trainer.config.target_l0
    if target is not None:
        if abs(l0 / target - 1) > OFF_TARGET:
            yield f"L0 is {l0:.4g} on held-out activations: the target was {target:g}"
    elif config.selects:
        if l0 > (1 + OFF_TARGET) * config.k:
            yield f"L0 is {l0:.4g} on held-out activations: k is {config.k}"
    elif l0 > DENSE * config.d_sae:
        yield (
            f"the code is not sparse: {l0:.4g} of {config.d_sae} latents are active at a time. Set "
            "--target-l0, or a larger --coefficient"
        )
