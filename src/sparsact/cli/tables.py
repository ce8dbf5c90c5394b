"""Tables and lines on the terminal."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def say(console: Console, line: str) -> None:
    """Print one line as it is, without wrapping."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def show(
    console: Console,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    picked: str = "",
    title: str | None = None,
) -> None:
    """Print a table; its first column is text, its other columns are numbers.

    Args:
        console: where.
        header: titles of the columns; they may wrap, numbers do not.
        rows: the cells of each row.
        picked: first cell of the row to highlight.
        title: stands above the table.
    """
    body = list(rows)
    table = Table(
        title=None if title is None else escape(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for i, name in enumerate(header):
        longest = max((len(row[i]) for row in body), default=0)
        table.add_column(name, justify="left" if i == 0 else "right", min_width=longest)
    for row in body:
        table.add_row(*map(escape, row), style="bold green" if row[0] == picked else None)
    console.print(table)
