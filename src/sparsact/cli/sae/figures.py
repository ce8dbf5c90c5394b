"""What the subcommands of ``sparsact sae`` print."""

import dataclasses
import math

from rich.console import Console
from rich.table import Table

from sparsact.sae import SAEMetrics, SpliceMetrics

NOTES = {"explained_variance": ", around the mean"}
"""Additions to names of figures that are ambiguous."""


def show_figures(console: Console, metrics: SAEMetrics | SpliceMetrics) -> None:
    """Print a table of the figures."""
    table = Table("figure", "value", box=None, pad_edge=False)
    for entry in dataclasses.fields(metrics):
        value = getattr(metrics, entry.name)
        if entry.name == "dead" and math.isnan(value):
            table.add_row("dead", "unknown: fewer activations than --dead-after counts")
        elif entry.name != "density":
            name = f"{entry.name}{NOTES.get(entry.name, '')}"
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    if isinstance(metrics, SAEMetrics):
        for decade, latents in metrics.latents_by_decade().items():
            low, high = (f"{100 * 10.0**exponent:g}%" for exponent in (decade, decade + 1))
            table.add_row(f"latents of density {low} to {high}", str(latents))
    console.print(table)


def show_line(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
