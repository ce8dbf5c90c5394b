"""``sparsact sae``: one file per subcommand."""

import os
from typing import Annotated

import tyro
from rich.console import Console

from sparsact.cli.sae.sae_bench import Bench, run_bench
from sparsact.cli.sae.sae_eval import Evaluate, run_evaluate
from sparsact.cli.sae.sae_export import Export, run_export
from sparsact.cli.sae.sae_report import Report, run_report
from sparsact.cli.sae.sae_train import Train, run_train


def sae(
    command: tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.OmitArgPrefixes[Annotated[Train, tyro.conf.subcommand("train")]]
        | tyro.conf.OmitArgPrefixes[Annotated[Evaluate, tyro.conf.subcommand("eval")]]
        | tyro.conf.OmitArgPrefixes[Annotated[Bench, tyro.conf.subcommand("bench")]]
        | tyro.conf.OmitArgPrefixes[Annotated[Report, tyro.conf.subcommand("report")]]
        | Annotated[Export, tyro.conf.subcommand("export")]
    ],
) -> int:
    """Sparse autoencoders: train, measure, benchmark, report and export them."""
    is_first = os.environ.get("RANK", "0") == "0"
    console = Console(quiet=not is_first)  # only one of several processes prints
    if isinstance(command, Train):
        run_train(command, console, is_first)
    elif isinstance(command, Evaluate):
        run_evaluate(command, console)
    elif isinstance(command, Bench):
        run_bench(command, console)
    elif isinstance(command, Report):
        run_report(command, console)
    else:
        run_export(command, console)
    return 0
