"""Files of JSON and tensors that others may have spoilt: what is wrong with one, it is named."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object.
    """
    _require(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold an object of settings, not a {type(found).__name__}")
    return found


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    _require(file)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file: {error}") from error


def _require(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} holds no {file.name}")
