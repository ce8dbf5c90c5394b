"""``sparsact compare``."""

import signal

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsact.cli.progress import progress
from sparsact.compare import CompareConfig, Comparison, Outcome
from sparsact.report.comparison.records import ComparisonReport
from sparsact.report.comparison.table import cells, header

INTERRUPTED = 128 + signal.SIGINT  # the shell's convention
FULL_WIDTH = 132  # columns that the whole table needs


def compare(config: tyro.conf.OmitArgPrefixes[CompareConfig]) -> int:
    """Train the same network with each activation on the same data, and compare."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=FULL_WIDTH)
    comparison = Comparison(config)
    for note in comparison.data.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    with progress(console) as update:
        outcome = comparison.execute(update)
    _show(console, outcome)
    return 0 if outcome.complete else INTERRUPTED


def _show(console: Console, outcome: Outcome) -> None:
    if outcome.report.rows:
        console.print(_table(outcome.report, spreads=console.width >= FULL_WIDTH))
    console.print(outcome.report.conclusion, highlight=False, markup=False)
    if outcome.report.rows:
        console.print(
            f"report: {outcome.path}/report.html", soft_wrap=True, highlight=False, markup=False
        )
    if not outcome.complete:
        console.print(
            f"interrupted: finish with  sparsact compare --resume {outcome.path}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _table(report: ComparisonReport, spreads: bool) -> Table:
    table = Table(
        title=escape(report.title),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    body = [cells(row, spreads) for row in report.rows]
    for i, title in enumerate(header(report.score_name)):
        longest = max(len(row[i]) for row in body)  # titles may wrap, cells should not
        table.add_column(title, justify="left" if i == 0 else "right", min_width=longest)
    for row, text in zip(report.rows, body, strict=True):
        table.add_row(*text, style="bold green" if row.picked else None)
    return table
