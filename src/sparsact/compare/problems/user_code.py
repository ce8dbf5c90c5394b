"""Errors of a user's own code, as one line that says which argument raised."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sparsact._common.errors import InputError, SparsactError
from sparsact.compare.training.tally import Diverged


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """A block that runs a user's code.

    Raises:
        InputError: the code raised; its own exception, with its traceback, is the cause.
    """
    try:
        yield
    except (SparsactError, Diverged):
        raise
    except Exception as error:
        text = str(error).partition("\n")[0]
        described = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise InputError(f"{what} raised {described} ({_place(error)})") from error


@contextmanager
def enough_memory() -> Iterator[None]:
    """A block that trains.

    Raises:
        InputError: there is not enough memory; torch's exception is the cause.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if is_memory or "DefaultCPUAllocator" in str(error):
            raise InputError(
                "there is not enough memory for a training: take a smaller batch_size=, or fewer "
                "jobs=; finished trainings are kept"
            ) from error
        raise


def _place(error: Exception) -> str:
    """The last line of the traceback that is neither in this package nor in an installed one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and not _is_ours(frame.filename)
    ]
    frame = own[-1] if own else frames[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _is_ours(filename: str) -> bool:
    return Path(__file__).parents[1] in Path(filename).parents
