"""A score over batches, and what ends a training that has no score."""

import math

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.compare.problems.batches import Batch
from sparsact.compare.results.scores import Score


class Diverged(Exception):
    """The loss or a weight is no longer finite."""


class Tally:
    """Gathers what a score is computed from, batch by batch."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.samples = 0
        self.loss = 0.0
        self.predictions: list[Tensor] = []
        self.targets: list[Tensor] = []

    def add(self, batch: Batch, loss: Tensor | None, prediction: Tensor | None) -> None:
        """Add a batch.

        Raises:
            Diverged: a prediction is not finite.
        """
        if prediction is not None and not prediction.isfinite().all():
            raise Diverged
        self.samples += batch.samples
        if self.score.measure is None:
            assert loss is not None
            self.loss += float(loss) * batch.samples
        elif prediction is None:
            raise InputError("the model returns no tensor to compute score= from")
        else:
            self.predictions.append(prediction.detach())
            self.targets.append(batch.target)

    def compute(self) -> float:
        """The score of all batches.

        Raises:
            Diverged: it is not finite.
        """
        if self.score.measure is None:
            value = -self.loss / self.samples
        else:
            value = self.score.measure(torch.cat(self.predictions), torch.cat(self.targets))
        if not math.isfinite(value):
            raise Diverged
        return value
