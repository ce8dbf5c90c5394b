"""Tensors in a file of ``torch.save``, read without running code."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError, MissingInputError


def read_pickled(file: Path) -> dict[str, Any]:
    """The dictionary in a file of ``torch.save``.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is damaged, holds no dictionary, or would run code. A pickle can
            contain any code; such a file is refused, whatever the code does.
    """
    if not file.is_file():
        raise MissingInputError(f"{file.parent} holds no {file.name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of files that plain pickle wrote
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file} is refused: it holds more than tensors and plain values, or is damaged. "
            "Reading it would run the code in it. Ask its author for a safetensors file"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError) as error:
        raise InputError(f"{file} is not a complete file of torch.save: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold a dictionary of tensors, not {type(content).__name__}")
    return content


def tensors_in(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries that are tensors."""
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}
