"""Where a command writes: made before the work, so that it is not in vain."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsact._common.atomic import writing


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """A block that fills a directory; a new one that stays empty is removed again.

    Raises:
        OutputError: it cannot be made.
    """
    new = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()
