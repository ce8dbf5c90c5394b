"""Files that are written completely or not at all."""

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sparsact._common.errors import OutputError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`.

    Raises:
        OutputError: the file system refused.
    """
    try:
        yield
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:
        reason, code = _reason_and_code(error)
        advice = "; free some space, then continue" if code in NO_SPACE else ""
        raise OutputError(
            f"{path} could not be written ({reason}); files written earlier are complete{advice}"
        ) from error


def _reason_and_code(error: OSError | SafetensorError) -> tuple[str, int | None]:
    """The reason that the system gives, and its error code."""
    if isinstance(error, OSError):
        return error.strerror or str(error), error.errno
    reason = str(error).rpartition("I/O error: ")[2]  # safetensors has no errno, only this text
    match = re.search(r"\(os error (\d+)\)", reason)
    return reason, int(match[1]) if match else None


def write_text(path: Path, text: str) -> None:
    """Write a text file; a previous one is replaced when the new one is complete."""
    write_files({path: lambda new: _write_utf8(new, text)})


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file; a previous one is replaced when the new one is complete."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_files({path: lambda new: save_file(contiguous, new, metadata)})


def write_files(writers: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write all of these files or none: each beside its place first, then moved there.

    Args:
        writers: for each file, a function that writes it to the path it is given.

    Raises:
        OutputError: the file system refused; nothing unfinished is left behind.
    """
    unfinished = {path: path.with_name(f"{path.name}.unfinished") for path in writers}
    try:
        for path, write in writers.items():
            with writing(path):
                write(unfinished[path])
                with unfinished[path].open("rb") as file:
                    os.fsync(file.fileno())  # reports late errors of the disk
        for path, new in unfinished.items():
            with writing(path):
                new.replace(path)
    finally:
        for new in unfinished.values():
            new.unlink(missing_ok=True)


def _write_utf8(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
