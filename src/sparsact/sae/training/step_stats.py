"""The statistics of one training step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.sae.training.sae_loss import LossParts


@dataclass(frozen=True)
class SAEStats:
    """The statistics of one training step.

    Attributes:
        step: number of the step, from 1.
        loss: the training objective.
        fvu: fraction of variance unexplained: squared error over squared deviation of the
            targets from the batch's mean.
        l0: mean number of active latents per input.
        penalty: the penalty per input, without its coefficient.
        coefficient: coefficient of the penalty.
        aux: auxiliary loss, without its coefficient.
        dead: latents that count as dead.
        gradient_norm: norm of the gradient before clipping.
        skipped: steps so far that were skipped because the gradient was not finite.
        lr: learning rate.
    """

    step: int
    loss: float
    fvu: float
    l0: float
    penalty: float
    coefficient: float
    aux: float
    dead: int
    gradient_norm: float
    skipped: int
    lr: float


def read_figures(parts: LossParts, dead: Tensor) -> dict[str, float]:
    """The statistics that are on the device, read at once: each read waits for it.

    Args:
        parts: of the joined batch.
        dead: (d_sae,) bool. float32 counts 2²⁴ of them exactly.
    """
    tensors = {
        "loss": parts.total.detach(),
        "fvu": parts.mse / parts.variance,
        "l0": parts.l0,
        "penalty": parts.penalty,
        "aux": parts.aux,
        "dead": dead.sum(),
    }
    values = torch.stack([tensor.float() for tensor in tensors.values()]).tolist()
    return dict(zip(tensors, values, strict=True))
