"""What is learned, on which data, and how it is measured: all that settings share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sparsact.compare.problems.batches import BatchSource
from sparsact.compare.problems.exchange import new_network
from sparsact.compare.problems.updates import Updates
from sparsact.compare.problems.user_frames import FrameEncoding
from sparsact.compare.results.scores import Score
from sparsact.compare.settings.compared_activations import Activation
from sparsact.compare.training.learning import Learning
from sparsact.hooks import CallSelector, CallSite
from sparsact.report.comparison.comparison_records import Baseline

UpdatesMaker = Callable[[nn.Module, float], Updates]
"""Takes the model and the learning rate."""


@dataclass(frozen=True)
class Problem:
    """A network, its data in three parts, a loss and a score.

    Attributes:
        name: of the data, in names of files.
        title: of the report.
        facts: lines about the data and the training, for the report.
        notes: remarks for the user, shown before the training.
        build: makes a network with its own activations; its weights come from torch's generator.
        select: the calls whose activation is exchanged.
        example: inputs of the network.
        train: the part to train on.
        validation: the part that choices are made on.
        test: the part that results are measured on.
        learning: gives the loss and the prediction.
        score: what is measured.
        updates: makes the optimizer.
        baseline: the score without a network.
        device: where to train.
        fingerprint: changes when the data or the task change.
        encoding: what made features of raw data frames, if the data were that.
    """

    name: str
    title: str
    facts: tuple[str, ...]
    notes: tuple[str, ...]
    build: Callable[[], nn.Module]
    select: tuple[CallSelector, ...]
    example: Any
    train: BatchSource
    validation: BatchSource
    test: BatchSource
    learning: Learning
    score: Score
    updates: UpdatesMaker
    baseline: Baseline | None
    device: torch.device
    fingerprint: str
    encoding: FrameEncoding | None = None

    def network(
        self, activation: Activation, level: float | None, seed: int
    ) -> tuple[nn.Module, dict[str, CallSite]]:
        """A new network from a seed with an activation in all places, and place → call site."""
        return new_network(self.build, self.select, activation, level, seed, self.example)
