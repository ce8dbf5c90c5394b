"""Files that are written whole or not at all."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sparsact._common.errors import OutputError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`: what the disk refuses is an OutputError."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:
        reason, number = _cause(error)
        advice = ": free some space and go on from there" if number in NO_SPACE else ""
        raise OutputError(
            f"{path} could not be written ({reason}); what was written before is whole{advice}"
        ) from error


def _cause(error: OSError | SafetensorError) -> tuple[str, int | None]:
    """What the system says, and its number for it."""
    if isinstance(error, OSError):
        return error.strerror or str(error), error.errno
    reason = str(error).rpartition("I/O error: ")[2]  # safetensors' way to tell it
    found = re.search(r"\(os error (\d+)\)", reason)
    return reason, int(found[1]) if found else None


def write_text(path: Path, text: str) -> None:
    """Write a text file, in place of the one that stood there once it is whole."""
    with _unfinished(path) as new:
        new.write_text(text, encoding="utf-8")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, in place of the one that stood there once it is whole."""
    with _unfinished(path) as new:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, new, metadata)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Where to write what then becomes `path`; nothing is left there if that fails."""
    new = path.with_name(f"{path.name}.unfinished")
    with writing(path):
        try:
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())  # reports what the disk refused late
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
