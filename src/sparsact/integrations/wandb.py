"""Histograms in Weights & Biases, which takes scalars from the trainers by itself."""

from collections.abc import Mapping
from typing import Any

from sparsact._common.extras import require
from sparsact.integrations.tensorboard import histograms
from sparsact.meters import LayerStats


def log_histograms(run: Any, stats: Mapping[str, LayerStats], step: dict[str, int]) -> None:
    """Log the histogram of the non-zero entries of every layer that has any.

    Args:
        run: a ``wandb.Run``.
        stats: layer → statistics.
        step: the trainer's own name of the step → its number.
    """
    wandb = require("wandb", "wandb")
    found = {
        tag: wandb.Histogram(np_histogram=(list(histogram.counts), histogram.edges))
        for tag, histogram in histograms(stats)
    }
    if found:
        run.log({**found, **step})
