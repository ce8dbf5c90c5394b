"""``sparsact sae``."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sparsact._common.errors import about_the_input
from sparsact._common.progress import Progress
from sparsact.cli.progress import progress
from sparsact.sae import (
    SAEMetrics,
    SparseAutoencoder,
    SpliceMetrics,
    evaluate,
    evaluate_spliced,
    load_sae,
    open_rows,
    save_saelens,
)
from sparsact.sae.activations.harvest import stream
from sparsact.sae.reporting import SAEReport, write_report
from sparsact.sae.run import SAERun, autoencoder_in, train
from sparsact.sae.source import Reading, check_at_least

MEANT = {"explained_variance": ", around the mean"}
"""What a figure's name leaves open."""

OFF_TARGET = 0.05
"""Share of the target L0 beyond which a miss is told."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained autoencoder on activations."""

    path: tyro.conf.Positional[str]
    """Directory of the run, or of an autoencoder by itself."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(
        default_factory=lambda: Reading(batch_rows=2)  # whose logits are in memory twice
    )
    data: str | None = None
    """A .npy or .safetensors file of activations (rows, width), or a directory of them; instead of
    a model, which is measured with the reconstruction spliced in, too."""
    rows: int = 65536
    """How many of the last activations of the data are used."""


@dataclass(frozen=True)
class Export:
    """Write a trained autoencoder in the files of another library."""

    path: tyro.conf.Positional[str]
    """Directory of the run, or of an autoencoder by itself."""
    out: tyro.conf.Positional[str]
    """Directory to write: a new one."""
    format: Literal["saelens"] = "saelens"
    """Whose files: SAELens reads them by SAE.load_from_disk."""
    hook_name: str | None = None
    """Where in the model SAELens attaches it, such as blocks.15.hook_resid_post."""
    model_name: str | None = None
    """Name by which SAELens finds the model."""


def sae(
    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[SAERun, tyro.conf.subcommand("train")]
        | Annotated[Evaluate, tyro.conf.subcommand("eval")]
        | Annotated[SAEReport, tyro.conf.subcommand("report")]
        | Annotated[Export, tyro.conf.subcommand("export")]
    ],
) -> int:
    """Sparse autoencoders: train them, measure them, look at them, hand them on."""
    first = os.environ.get("RANK", "0") == "0"
    console = Console(quiet=not first)  # of several processes one speaks
    if isinstance(command, SAERun):
        _train(command, console, first)
    elif isinstance(command, Evaluate):
        _evaluate(command, console)
    elif isinstance(command, SAEReport):
        with progress(console) as update:
            page = write_report(command, update)
        _say(console, f"report: {page}")
    else:
        with about_the_input():
            written = _export(command)
        _say(console, f"{command.format}: {written}")
    return 0


def _train(command: SAERun, console: Console, first: bool) -> None:
    with progress(console) as update:
        metrics = train(command, update)
    _show(console, metrics)
    target = command.training.target_l0
    if target is not None and abs(metrics.l0 / target - 1) > OFF_TARGET:
        _say(console, f"L0 is {metrics.l0:.4g} on held-out activations: the target was {target:g}")
    _say(console, f"autoencoder: {command.out}/sae")
    if first:
        page = write_report(SAEReport(command.out, most=0, sample=0))
        _say(console, f"report: {page}")


def _evaluate(command: Evaluate, console: Console) -> None:
    with about_the_input(), progress(console) as update:
        check_at_least("rows", command.rows, 1)
        autoencoder = load_sae(autoencoder_in(Path(command.path)))
        if (command.data is None) == (command.reading.model is None):
            raise ValueError("give either --data, or --model with --layer and --text")
        if command.data is not None:
            _show(console, evaluate(autoencoder, _rows(command, autoencoder).split(2048)))
        else:
            for figures in _in_model(command.reading, autoencoder, update):
                _show(console, figures)


def _export(command: Export) -> Path:
    names = {"hook_name": command.hook_name, "model_name": command.model_name}
    given = {key: value for key, value in names.items() if value is not None}
    return save_saelens(load_sae(autoencoder_in(Path(command.path))), command.out, given)


def _rows(command: Evaluate, autoencoder: SparseAutoencoder) -> Tensor:
    """The activations on which it is measured."""
    assert command.data is not None
    rows = open_rows(command.data)
    if rows.width != autoencoder.config.d_in:
        raise ValueError(
            f"{command.data} holds rows of width {rows.width}, the autoencoder reads "
            f"{autoencoder.config.d_in}"
        )
    return rows.last(command.rows)


def _in_model(
    reading: Reading, autoencoder: SparseAutoencoder, update: Progress
) -> tuple[SAEMetrics, SpliceMetrics]:
    """The figures on the layer's activations, and what the model makes of the reconstruction."""
    update(0, 1, "loading the model")
    model, layer, tokens = reading.load()
    spliced = evaluate_spliced(
        model,
        layer,
        autoencoder,
        tokens,
        batch_rows=reading.batch_rows,
        progress=lambda done, total: update(done, total, "spliced into the model"),
    )
    return evaluate(autoencoder, stream(model, layer, tokens, reading.batch_rows)), spliced


def _show(console: Console, metrics: SAEMetrics | SpliceMetrics) -> None:
    table = Table("figure", "value", box=None, pad_edge=False)
    for entry in dataclasses.fields(metrics):
        value = getattr(metrics, entry.name)
        if entry.name != "density":
            name = f"{entry.name}{MEANT.get(entry.name, '')}"
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    if isinstance(metrics, SAEMetrics):
        for decade, latents in metrics.latents_by_decade().items():
            low, high = (f"{100 * 10.0**exponent:g}%" for exponent in (decade, decade + 1))
            table.add_row(f"latents of density {low} to {high}", str(latents))
    console.print(table)


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
