"""``sparsact sae eval``."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.cli.progress_bar import progress
from sparsact.cli.sae.figures import show_figures
from sparsact.sae import (
    SAEMetrics,
    SparseAutoencoder,
    SpliceMetrics,
    evaluate,
    evaluate_spliced,
    load_sae,
    open_rows,
)
from sparsact.sae.data.activation_source import LayerReading, check_at_least
from sparsact.sae.data.harvesting import stream
from sparsact.sae.training.training_run import autoencoder_in

BATCH = 2048
"""Rows that are measured at a time."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained autoencoder on activations."""

    path: tyro.conf.Positional[str]
    """Directory of the run, or of an autoencoder by itself."""
    reading: LayerReading = field(
        default_factory=lambda: LayerReading(batch_rows=2)  # logits are in memory twice
    )
    data: str | None = None
    """A .npy or .safetensors file of activations (rows, width), or a directory of such files.
    Replaces the model. With a model, the reconstruction is also spliced into it."""
    rows: int = 65536
    """Number of rows to measure, from the end of the data."""


def run_evaluate(command: Evaluate, console: Console) -> None:
    """Measure, and print the figures."""
    check_at_least("rows", command.rows, 1)
    autoencoder = load_sae(autoencoder_in(Path(command.path)))
    if (command.data is None) == (command.reading.model is None):
        raise InputError("give either data=, or model= with layer= and text=")
    with progress(console) as update:
        if command.data is not None:
            rows = _rows(command.data, command.rows, autoencoder)
            show_figures(console, evaluate(autoencoder, rows.split(BATCH)))
        else:
            for figures in _in_model(command.reading, autoencoder, update):
                show_figures(console, figures)


def _rows(data: str, count: int, autoencoder: SparseAutoencoder) -> Tensor:
    """The last rows of the data."""
    rows = open_rows(data)
    if rows.width != autoencoder.config.d_in:
        raise InputError(
            f"{data} holds rows of width {rows.width}, but the autoencoder needs width "
            f"{autoencoder.config.d_in}"
        )
    return rows.last(count)


def _in_model(
    reading: LayerReading, autoencoder: SparseAutoencoder, update: Progress
) -> tuple[SAEMetrics, SpliceMetrics]:
    """The figures on the layer's activations, and of the model with the reconstruction."""
    update(0, 1, "loading the model")
    model, layer, tokens = reading.load()
    spliced = evaluate_spliced(
        model,
        layer,
        autoencoder,
        tokens,
        batch_rows=reading.batch_rows,
        progress=update,
    )
    return evaluate(autoencoder, stream(model, layer, tokens, reading.batch_rows)), spliced
