"""The directory of a run, with the state from which the run can be resumed."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparsact._common.atomic import write_text, writing
from sparsact._common.errors import InputError, MissingInputError
from sparsact._version import __version__

STATE_FILE = "config.json"


class RunDirectory:
    """A directory with ``config.json``, the state of the run that writes there.

    Attributes:
        path: the directory.
        state: the content of ``config.json``; :meth:`save` writes it after a change.
    """

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path = path
        self.state = state

    @classmethod
    def create(
        cls, path: Path, state: dict[str, Any], *, leftovers: Collection[str] = ()
    ) -> "RunDirectory":
        """Start a run in a directory that is new, empty, or holds `leftovers` only.

        Args:
            path: the directory; it is made if it does not exist.
            state: JSON values; the versions of sparsact and torch are added.
            leftovers: names that an earlier start may have left there.

        Raises:
            InputError: the directory is in use, or the path is a file.
            OutputError: the directory cannot be written.
        """
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file: choose another out=")
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        if STATE_FILE in names:
            raise InputError(
                f"{path} exists already: choose another out=, or continue the run with resume="
            )
        if names - set(leftovers):
            raise InputError(f"{path} is not empty and holds no run: choose another out=")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, {**state, "versions": versions()})
        run.save()
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run.

        Raises:
            MissingInputError: there is none.
            InputError: its state cannot be read.
        """
        file = path / STATE_FILE
        if not file.is_file():
            raise MissingInputError(f"{path} holds no run: it has no {STATE_FILE}")
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} is damaged: {error}") from error
        if not isinstance(state, dict):
            raise InputError(f"{file} is damaged: it holds no JSON object")
        return cls(path, state)

    def save(self) -> None:
        """Write the state; the file is never half-written."""
        write_text(self.path / STATE_FILE, json.dumps(self.state, indent=2) + "\n")


def versions() -> dict[str, str]:
    """The versions that a run records."""
    return {"sparsact": __version__, "torch": torch.__version__}


@contextmanager
def output_directory(path: Path) -> Iterator[None]:
    """Make a directory before the work that fills it; remove it if it stays empty.

    Raises:
        OutputError: it cannot be made.
    """
    is_new = not path.exists()
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if is_new and not any(path.iterdir()):
            path.rmdir()
