"""Histograms for Weights & Biases; its scalars come from the trainers."""

from collections.abc import Mapping
from typing import Any

from sparsact._common.extras import require
from sparsact.integrations.tensorboard import histograms
from sparsact.meters import LayerStats


def log_histograms(run: Any, stats: Mapping[str, LayerStats], step: dict[str, int]) -> None:
    """Log the histogram of every layer that has non-zero entries.

    Args:
        run: a ``wandb.Run``.
        stats: layer → statistics.
        step: the name that the trainer uses for the step → the step.
    """
    wandb = require("wandb", "wandb")
    by_tag = {
        tag: wandb.Histogram(np_histogram=(list(histogram.counts), histogram.edges))
        for tag, histogram in histograms(stats)
    }
    if by_tag:
        run.log({**by_tag, **step})
