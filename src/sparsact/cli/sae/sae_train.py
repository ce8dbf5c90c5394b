"""``sparsact sae train``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sparsact.cli.progress_bar import progress
from sparsact.cli.sae.figures import show_figures, show_line
from sparsact.sae.kinds import PresetName, kinds_help
from sparsact.sae.reporting import write_report
from sparsact.sae.reporting.report_writing import DashboardChoice
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.training.training_run import train_runs


@dataclass(frozen=True)
class Train(SAERun):
    """Train a sparse autoencoder."""

    activation: Annotated[
        PresetName, tyro.conf.arg(help=f"The kind of autoencoder. {kinds_help()}.")
    ] = "topk"


def run_train(command: Train, console: Console, is_first: bool) -> None:
    """Train, and print the held-out figures.

    Args:
        command: the flags.
        console: where to print.
        is_first: whether this is the first of several processes, which writes the report.
    """
    with progress(console) as update:
        results = train_runs(command, update)
    for name, result in results.items():
        if name:
            show_line(console, name)
        show_figures(console, result.metrics)
        for note in result.notes:
            show_line(console, note)
        out = Path(command.out) / name
        show_line(console, f"autoencoder: {out}/sae")
        if is_first:
            page = write_report(out, choice=DashboardChoice(most=0, sample=0))
            show_line(console, f"report: {page}")
