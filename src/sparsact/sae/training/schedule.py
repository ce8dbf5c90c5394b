"""What changes over the steps of a training: learning rate, penalty, and when to resample."""

import math
from dataclasses import dataclass
from typing import Any

from sparsact._common.errors import InputError
from sparsact.sae.sae_config import SAETrainConfig

LR_WARMUP, SPARSITY_WARMUP = 100, 500
"""Largest default lengths of the warm-ups, in steps."""

LR_SHARE, SPARSITY_SHARE = 20, 4
"""A default warm-up takes at most one part in so many of the run."""

QUIET_SHARE = 5
"""In the last one part in so many of the run, no latents are resampled."""


@dataclass
class Schedule:
    """The schedule of one training.

    Attributes:
        config: settings of the training.
        steps: length of the run, or None while it is unknown.
        lr_warmup: steps over which the learning rate rises. Fixed by the first step.
        sparsity_warmup: steps over which the coefficient rises. Fixed by the first step.
    """

    config: SAETrainConfig
    steps: int | None = None
    lr_warmup: int | None = None
    sparsity_warmup: int | None = None

    def begin(self) -> None:
        """Choose the warm-ups that the settings leave open, once."""
        if self.lr_warmup is None or self.sparsity_warmup is None:
            self.lr_warmup, self.sparsity_warmup = warmups(self.config, self.steps)

    def lr_factor(self, step: int) -> float:
        """Factor of the learning rate in `step`, counted from 1.

        Raises:
            InputError: there is a decay, and the length of the run is unknown.
        """
        assert self.lr_warmup is not None
        return ramp(step, self.lr_warmup) * self._decay(step)

    def penalty_factor(self, step: int) -> float:
        """Factor of the penalty's coefficient in `step`, counted from 1."""
        assert self.sparsity_warmup is not None
        return ramp(step - 1, self.sparsity_warmup)

    def power(self, step: int) -> float:
        """The exponent of the penalty in `step`, counted from 1.

        Raises:
            InputError: it changes, and the length of the run is unknown.
        """
        end = self.config.p_end
        if end == 1:
            return 1.0
        if self.steps is None:
            raise InputError("p_end= needs the length of the run: train with run or fit")
        assert self.sparsity_warmup is not None
        length = self.steps - self.sparsity_warmup
        return 1 + (end - 1) * ramp(max(step - self.sparsity_warmup, 0), max(length, 1))

    def k(self, step: int, k: int) -> int:
        """The number of latents that are kept in `step`, counted from 1; `k` at the end."""
        start, length = self.config.k_start, self.config.k_warmup_steps
        return k if start is None else round(start + (k - start) * ramp(step - 1, length))

    def controls_l0(self, step: int) -> bool:
        """Whether the coefficient follows the target L0 after `step`."""
        assert self.sparsity_warmup is not None
        return step > self.sparsity_warmup

    def resamples(self, step: int) -> bool:
        """Whether latents are resampled after `step`: not in the last part of the run."""
        every = self.config.resample_every
        if not every or step % every:
            return False
        return self.steps is None or (self.steps - step) * QUIET_SHARE >= self.steps

    def state_dict(self) -> dict[str, Any]:
        """The warm-ups, which a resumed training keeps."""
        return {"lr": self.lr_warmup, "sparsity": self.sparsity_warmup}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Continue with the warm-ups that :meth:`state_dict` returned; None is from version 0.1."""
        if state is None:
            self.lr_warmup, self.sparsity_warmup = warmups(self.config, None)
        else:
            self.lr_warmup, self.sparsity_warmup = state["lr"], state["sparsity"]

    def _decay(self, step: int) -> float:
        length = self.config.lr_decay_steps
        if not length:
            return 1.0
        if self.steps is None:
            raise InputError(
                "lr_decay_steps= needs the length of the run: train with run or fit, not with step"
            )
        factor = ramp(max(self.steps - step + 1, 0), length)
        return factor if self.config.lr_decay == "linear" else (1 - math.cos(math.pi * factor)) / 2


def warmups(config: SAETrainConfig, steps: int | None) -> tuple[int, int]:
    """The steps of the two warm-ups, for a run of that length."""
    lr, sparsity = config.lr_warmup_steps, config.sparsity_warmup_steps
    if lr is None:
        share = LR_WARMUP if steps is None else steps // LR_SHARE
        lr = min(LR_WARMUP, share)
    if sparsity is None:
        share = SPARSITY_WARMUP if steps is None else steps // SPARSITY_SHARE
        sparsity = min(SPARSITY_WARMUP, share)
    return lr, sparsity


def ramp(step: int, length: int) -> float:
    """From 0 at step 0 to 1 at `length`."""
    return 1.0 if step >= length else step / length
