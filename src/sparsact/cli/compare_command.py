"""``sparsact compare``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import tyro
from rich.console import Console

from sparsact._common.errors import InputError
from sparsact.cli.error_lines import INTERRUPTED, with_flags
from sparsact.cli.progress_bar import progress
from sparsact.cli.tables import say, show
from sparsact.compare import CompareConfig, Comparison, Outcome
from sparsact.compare.problems.task_file import write_example
from sparsact.compare.settings.compared_activations import ACTIVATIONS, MORE_ACTIVATIONS
from sparsact.compare.settings.compared_penalties import PENALTIES
from sparsact.report.comparison.comparison_table import cells, fitting_table, not_shown

FULL_WIDTH = 160  # letters of a line that goes into a file
EDGE = 2  # letters around a table


class _Described(Protocol):
    @property
    def help(self) -> str: ...


def _described(choices: Mapping[str, _Described]) -> str:
    return ", ".join(f"{name} ({choice.help})" for name, choice in choices.items())


@dataclass(frozen=True)  # only what tyro cannot infer from the types; docstrings are inherited
class CompareFlags(CompareConfig):
    """Train the same network with each activation on the same data, and compare."""

    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATA")]] = CompareConfig.data
    target: Annotated[str | None, tyro.conf.arg(metavar="COLUMNS")] = None
    ignore: Annotated[str | None, tyro.conf.arg(metavar="COLUMNS")] = None
    categories: Annotated[str | None, tyro.conf.arg(metavar="COLUMNS")] = None
    missing: Annotated[str | None, tyro.conf.arg(metavar="WORDS")] = None
    split: Annotated[str | None, tyro.conf.arg(metavar="COLUMN|FILE")] = None
    group: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    time: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    activations: Annotated[
        str,
        tyro.conf.arg(
            help="Comma-separated names, or all. ReLU is always trained, as the reference. "
            f"Names in all: {_described(ACTIVATIONS)}. Others: {', '.join(MORE_ACTIVATIONS)}, or "
            "package.module:Class for your own."
        ),
    ] = CompareConfig.activations
    penalty: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="KIND=COEFFICIENT",
            help="Penalty on the activations, per sample, such as l1=1e-4. "
            f"Kinds: {_described(PENALTIES)}.",
        ),
    ] = None
    weight_penalty: Annotated[str | None, tyro.conf.arg(metavar="KIND=COEFFICIENT")] = None
    sweep: Annotated[str | None, tyro.conf.arg(metavar="NAME=LOW:HIGH:COUNT")] = None
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    new: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write an example of a Python file that defines your network, data, loss and score."""


def compare(config: tyro.conf.OmitArgPrefixes[CompareFlags]) -> int:
    """Train the same network with each activation on the same data, and compare."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=FULL_WIDTH)
    if config.new is not None:
        return _write_new(console, config)
    arguments = {name: value for name, value in vars(config).items() if name != "new"}
    comparison = Comparison(CompareConfig(**arguments))
    if comparison.data is not None and comparison.data.encoder is not None:
        for names, treatment in comparison.data.encoder.summary():
            say(console, f"{names}: {treatment}")
    for note in comparison.problem.notes:
        say(console, f"note: {with_flags(note, compare)}")
    with progress(console) as update:
        outcome = comparison.execute(update)
    _show(console, outcome, comparison.plan.config)
    return 0 if outcome.complete else INTERRUPTED


def _write_new(console: Console, config: CompareFlags) -> int:
    assert config.new is not None
    if config != CompareFlags(new=config.new):
        raise InputError("new= only writes a file; leave out other arguments")
    write_example(Path(config.new))
    command = f"sparsact compare {config.new} --epochs 10 --lr 0.005"
    say(console, f"{config.new} is written: run it with  {command}")
    return 0


def _show(console: Console, outcome: Outcome, config: CompareConfig) -> None:
    report = outcome.report
    if report.rows:
        table = fitting_table(report, console.width - EDGE)
        picked = next((cells(row)[0] for row in report.rows if row.picked), "")
        show(console, table.header, table.rows, picked, title=report.title)
        if table.left_out:
            say(console, f"{not_shown(table)} (all columns: {outcome.path}/table.csv)")
    say(console, report.conclusion)
    if report.rows:
        say(console, f"report: {outcome.path}/report.html")
    if not outcome.complete:
        command = f"sparsact compare --resume {outcome.path}"
        if config.jobs > 1:
            command += f" --jobs {config.jobs}"
        if config.backend != CompareConfig.backend:
            command += f" --backend {config.backend}"
        say(console, f"interrupted: finish with  {command}")
