"""``sparsact sae export``."""

from dataclasses import dataclass
from typing import Literal

import tyro
from rich.console import Console

from sparsact.cli.sae.figures import show_line
from sparsact.sae import load, save_saelens


@dataclass(frozen=True)
class Export:
    """Write a trained autoencoder in the format of another library."""

    path: tyro.conf.Positional[str]
    """Directory of a run or an autoencoder, also of another library; or a name on the hub."""
    out: tyro.conf.Positional[str]
    """Directory to write; it must be new."""
    format: Literal["saelens"] = "saelens"
    """Format of the files: SAELens reads them with SAE.load_from_disk."""
    hook_name: str | None = None
    """Where SAELens attaches it in the model, such as blocks.15.hook_resid_post. By default as
    the autoencoder records it, if that is a name of TransformerLens."""
    model_name: str | None = None
    """Name by which SAELens finds the model. By default as the autoencoder records it."""


def run_export(command: Export, console: Console) -> None:
    """Write the files, and print their directory."""
    names = {"hook_name": command.hook_name, "model_name": command.model_name}
    metadata = {key: value for key, value in names.items() if value is not None}
    autoencoder = load(command.path)
    folder = save_saelens(autoencoder, command.out, metadata)
    show_line(console, f"{command.format}: {folder}")
