"""Errors of a user's own code, as one line that says which argument raised."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sparsact._common.errors import InputError, SparsactError
from sparsact.compare.training.tally import Diverged

_PACKAGE = Path(__file__).parents[2]
_STANDARD = Path(traceback.__file__).parent


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """A block that runs a user's code.

    Raises:
        InputError: the code raised, or ended the program; its own exception, with its traceback,
            is the cause.
    """
    try:
        yield
    except (SparsactError, Diverged):
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{what} {_described(error)}{_place(error)}") from error


@contextmanager
def training_code(what: str) -> Iterator[None]:
    """A block that trains with a user's code.

    Raises:
        InputError: that code raised. An exception from elsewhere is not changed.
    """
    try:
        yield
    except SparsactError:
        raise
    except (Exception, SystemExit) as error:
        if not _place(error):
            raise
        raise InputError(
            f"{what} {_described(error)}{_place(error)}; finished trainings are kept"
        ) from error


@contextmanager
def enough_memory() -> Iterator[None]:
    """A block that trains.

    Raises:
        InputError: there is not enough memory; torch's exception is the cause.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            raise InputError(
                "there is not enough memory for a training: take a smaller batch_size=, or fewer "
                "jobs=; finished trainings are kept"
            ) from error
        raise


def _described(error: BaseException) -> str:
    if _is_out_of_memory(error):
        return "needs more memory than there is"
    text = str(error).partition("\n")[0]
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def _is_out_of_memory(error: BaseException) -> bool:
    is_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_memory or "DefaultCPUAllocator" in str(error)


def _place(error: BaseException) -> str:
    """The last line of the traceback that is neither in this package nor in an installed one."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _is_own(filename: str) -> bool:
    """Whether a file is the user's."""
    path = Path(filename)
    is_installed = "site-packages" in path.parts or _STANDARD in path.parents
    return not is_installed and _PACKAGE not in path.parents and not filename.startswith("<")
