"""``sparsact sae eval``."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.cli.progress_bar import progress
from sparsact.cli.sae.figures import show_figures, show_line
from sparsact.sae import (
    SAEMetrics,
    SparseAutoencoder,
    SpliceMetrics,
    evaluate,
    evaluate_spliced,
    load,
    open_rows,
)
from sparsact.sae.data.activation_source import LayerReading, check_at_least
from sparsact.sae.data.harvesting import origin_of, stream

BATCH = 2048
"""Rows that are measured at a time."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained autoencoder on activations."""

    path: tyro.conf.Positional[str]
    """Directory of a run or an autoencoder, also of another library; or a name on the hub."""
    reading: LayerReading = field(
        default_factory=lambda: LayerReading(batch_rows=2)  # logits are in memory twice
    )
    data: str | None = None
    """A .npy or .safetensors file of activations (rows, width), or a directory of such files.
    Replaces the model. With a model, the reconstruction is also spliced into it."""
    rows: int = 65536
    """Number of rows to measure, from the end of the data. In the data of its training, only rows
    that were held out are measured."""
    check: bool = True
    """Refuse a model or layer on which the autoencoder was not trained."""


def run_evaluate(command: Evaluate, console: Console) -> None:
    """Measure, and print the figures."""
    check_at_least("rows", command.rows, 1)
    autoencoder = load(command.path)
    if (command.data is None) == (command.reading.model is None):
        raise InputError("give either data=, or model= with layer= and text=")
    with progress(console) as update:
        if command.data is not None:
            rows, note = _rows(command, command.data, autoencoder)
            show_figures(console, evaluate(autoencoder, rows.split(BATCH)))
            if note:
                show_line(console, note)
        else:
            for figures in _in_model(command, autoencoder, update):
                show_figures(console, figures)


def _rows(command: Evaluate, data: str, autoencoder: SparseAutoencoder) -> tuple[Tensor, str]:
    """The rows to measure, and a line that says which if they are not the last ones."""
    rows, trained_on = open_rows(data), autoencoder.trained_on
    if rows.width != autoencoder.config.d_in:
        raise InputError(
            f"{data} holds rows of width {rows.width}, but the autoencoder needs width "
            f"{autoencoder.config.d_in}"
        )
    if trained_on is None:
        return rows.last(command.rows), ""
    if command.check:
        trained_on.check(origin_of(Path(data)))
    if not trained_on.held_out or trained_on.data != rows.fingerprint():
        return rows.last(command.rows), ""
    _, held_out = rows.split(trained_on.held_out, trained_on.seed)
    measured = held_out[-command.rows :]
    return measured, (
        f"measured on {len(measured)} of the {len(held_out)} rows that were held out: it was "
        f"trained on the others of {data}"
    )


def _in_model(
    command: Evaluate, autoencoder: SparseAutoencoder, update: Progress
) -> tuple[SAEMetrics, SpliceMetrics]:
    """The figures on the layer's activations, and of the model with the reconstruction."""
    reading = command.reading
    update(0, 1, "loading the model")
    model, layer, tokens = reading.load()
    spliced = evaluate_spliced(
        model,
        layer,
        autoencoder,
        tokens,
        site=reading.site,
        batch_rows=reading.batch_rows,
        progress=update,
        check=command.check,
    )
    rows = stream(model, layer, tokens, reading.batch_rows, site=reading.site)
    return evaluate(autoencoder, rows), spliced
