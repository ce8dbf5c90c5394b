"""The bar that every verb shows while it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sparsact._common.progress import Progress


@contextmanager
def progress(console: Console, amount: ProgressColumn | None = None) -> Iterator[Progress]:
    """Show a bar until the block ends.

    Args:
        console: where.
        amount: the column that shows how much is done; a percentage by default.
    """
    with Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        amount or TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, label: bar.update(
            task, completed=done, total=total, description=label
        )
