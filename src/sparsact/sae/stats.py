"""What a step of training tells."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SAEStats:
    """What one step found.

    Attributes:
        step: number of the step, from 1.
        loss: what was minimised.
        fvu: fraction of variance unexplained: squared error over squared deviation of the
            targets from the batch's mean.
        l0: mean number of active latents per input.
        penalty: the kind's penalty per input, before its coefficient.
        coefficient: that coefficient.
        aux: auxiliary loss, before its coefficient.
        dead: latents that count as dead.
        gradient_norm: before clipping.
        skipped: steps so far in which the gradient was not finite: no parameter moved.
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
