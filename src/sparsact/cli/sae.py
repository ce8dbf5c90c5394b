"""``sparsact sae``."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sparsact._errors import about_the_input
from sparsact.cli.progress import progress
from sparsact.sae import SAEMetrics, SparseAutoencoder, evaluate, load_sae, open_rows
from sparsact.sae.reporting import SAEReport, write_report
from sparsact.sae.run import SAERun, train


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained autoencoder on activations."""

    path: tyro.conf.Positional[str]
    """Directory of the autoencoder: RUN/sae."""
    data: str
    """A .npy or .safetensors file of activations (rows, width), or a directory of them."""
    rows: int = 65536
    """How many of the last activations are used."""


def sae(
    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[SAERun, tyro.conf.subcommand("train")]
        | Annotated[Evaluate, tyro.conf.subcommand("eval")]
        | Annotated[SAEReport, tyro.conf.subcommand("report")]
    ],
) -> int:
    """Sparse autoencoders: train them, measure them, look at them."""
    console = Console()
    if isinstance(command, SAERun):
        with progress(console) as update:
            metrics = train(command, update)
        _show(console, metrics)
        console.print(f"autoencoder: {command.out}/sae", highlight=False, markup=False)
        page = write_report(SAEReport(command.out, most=0, sample=0))
        console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    elif isinstance(command, SAEReport):
        with progress(console) as update:
            page = write_report(command, update)
        console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    else:
        with about_the_input():
            autoencoder, taken = _read(command)
        _show(console, evaluate(autoencoder, taken.split(2048)))
    return 0


def _read(command: Evaluate) -> tuple[SparseAutoencoder, Tensor]:
    """The autoencoder, and the activations it is measured on."""
    autoencoder, rows = load_sae(command.path), open_rows(command.data)
    if rows.width != autoencoder.config.d_in:
        raise ValueError(
            f"{command.data} holds rows of width {rows.width}, the autoencoder reads "
            f"{autoencoder.config.d_in}"
        )
    return autoencoder, rows.split(min(command.rows, rows.total - 1))[1]


def _show(console: Console, metrics: SAEMetrics) -> None:
    table = Table("held-out figure", "value", box=None, pad_edge=False)
    for field in dataclasses.fields(metrics):
        value = getattr(metrics, field.name)
        if field.name != "density":
            table.add_row(field.name, f"{value:.4g}" if isinstance(value, float) else str(value))
    console.print(table)
