"""A table on the terminal, from cells."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(
    console: Console, header: Sequence[str], rows: Iterable[Sequence[str]], picked: str = ""
) -> None:
    """Print a table whose first column is text and whose others are numbers.

    Args:
        console: where.
        header: titles of the columns.
        rows: cells.
        picked: first cell of the row that stands out.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=i > 0)
    for row in rows:
        table.add_row(*map(escape, row), style="bold green" if row[0] == picked else None)
    console.print(table)
