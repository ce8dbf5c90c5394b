"""``sparsact sae``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sparsact._errors import about_the_input
from sparsact.cli.progress import progress
from sparsact.sae import (
    SAEMetrics,
    SparseAutoencoder,
    evaluate,
    load_sae,
    open_rows,
    save_saelens,
)
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


@dataclass(frozen=True)
class Export:
    """Write a trained autoencoder in the files of another library."""

    path: tyro.conf.Positional[str]
    """Directory of the autoencoder: RUN/sae."""
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
        | Annotated[Export, tyro.conf.subcommand("export")]
    ],
) -> int:
    """Sparse autoencoders: train them, measure them, hand them on."""
    console = Console()
    if isinstance(command, SAERun):
        with progress(console) as update:
            metrics = train(command, update)
        _show(console, metrics)
        console.print(f"autoencoder: {command.out}/sae", highlight=False, markup=False)
    elif isinstance(command, Export):
        with about_the_input():
            written = _export(command)
        console.print(f"{command.format}: {written}", highlight=False, markup=False)
    else:
        with about_the_input():
            autoencoder, taken = _read(command)
        _show(console, evaluate(autoencoder, taken.split(2048)))
    return 0


def _export(command: Export) -> Path:
    names = {"hook_name": command.hook_name, "model_name": command.model_name}
    given = {key: value for key, value in names.items() if value is not None}
    return save_saelens(load_sae(command.path), command.out, given)


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
