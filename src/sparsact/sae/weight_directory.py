"""A directory of one safetensors and one JSON file, written completely or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact._common.errors import InputError, MissingInputError


def replace_directory(
    path: Path, tensors: dict[str, Tensor], settings: Any, names: tuple[str, str]
) -> Path:
    """Write the two files into a new directory, which then takes the place of `path`.

    The old directory is moved aside before the new one is renamed, and removed afterwards.
    :func:`find_directory` finds the old one in between, and after a crash there.

    Args:
        path: the directory.
        tensors: content of the safetensors file.
        settings: content of the JSON file.
        names: of the safetensors and the JSON file.

    Raises:
        InputError: `path` holds anything but those two files.
        OutputError: it cannot be written; what was there before is still there.
    """
    check_replaceable(path, names)
    new, old = _beside(path, "new"), _beside(path, "old")
    with writing(path):
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            write_tensors(new / names[0], tensors)
            write_text(new / names[1], json.dumps(settings, indent=2) + "\n")
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            new.rename(path)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return path


def find_directory(path: Path) -> Path:
    """`path`, or the directory that was there before an unfinished replacement."""
    old = _beside(path, "old")
    return old if old.exists() and not path.exists() else path


def _beside(path: Path, state: str) -> Path:
    """Where a directory is while it is replaced: a name that nothing else has."""
    return path.with_name(f".{path.name}.sparsact-{state}")


def check_replaceable(path: Path, names: tuple[str, str]) -> None:
    """Raise InputError if replacing `path` would delete anything but files of those names."""
    if not path.exists():
        return
    files = {file.name for file in path.iterdir()} if path.is_dir() else None
    if files is None or (files and files != set(names)):
        raise InputError(
            f"{path} is not replaced, because it is not a directory of only "
            f"{' and '.join(names)}: choose another path, or move it away"
        )


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        MissingInputError: there is no such file.
        InputError: it holds no JSON object.
    """
    _require(file)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} must hold an object of settings, not a {type(settings).__name__}")
    return settings


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        MissingInputError: there is no such file.
        InputError: it cannot be read.
    """
    _require(file)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise InputError(f"{file} is not a complete safetensors file: {error}") from error


def _require(file: Path) -> None:
    if not file.is_file():
        raise MissingInputError(f"{file.parent} holds no {file.name}")
