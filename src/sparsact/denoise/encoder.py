"""Writers whose errors are those of this package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsact._common.errors import OutputError, SparsactError


def encoder(path: Path, write: Callable[[Path], Any]) -> Callable[[Path], None]:
    """`write` with an OutputError for whatever an encoder raises."""

    def encode(unfinished: Path) -> None:
        with _encoding(path):
            write(unfinished)

    return encode


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    try:
        yield
    except (SparsactError, OSError):
        raise
    except Exception as error:  # encoders raise all kinds of exceptions
        reason = str(error) or type(error).__name__
        raise OutputError(f"{path} could not be written ({reason})") from error
