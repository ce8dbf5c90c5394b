"""A directory that another library wrote: its settings and tensors, each asked for by name."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact.sae.read import read_tensors

SETTINGS = "cfg.json"


class Tensors:
    """The tensors of a file, in float32, each taken once.

    Args:
        file: a safetensors file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._left = {name: tensor.to(torch.float32) for name, tensor in read_tensors(file).items()}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name.

        Raises:
            ValueError: there is none, or it has another shape.
        """
        if name not in self._left:
            raise ValueError(f"{self.file} holds no {name}, only {', '.join(self._left)}")
        tensor = self._left.pop(name)
        if tensor.shape != shape:
            raise ValueError(
                f"{name} in {self.file} must be {shape} as the settings say, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor

    def end(self) -> None:
        """Check that nothing is left over.

        Raises:
            ValueError: there are tensors nobody took: what they would do would be missing.
        """
        if self._left:
            raise ValueError(
                f"{self.file} holds {', '.join(self._left)} besides: an autoencoder of another kind"
            )


def setting(settings: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    """One setting of a type.

    Raises:
        ValueError: it is missing, or of another type.
    """
    value = settings.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = repr(value) if name in settings else "nothing"
        raise ValueError(f"{name} in {path / SETTINGS} must be {kind.__name__}, found {found}")
    return value


def refuse(what: str, known: Collection[str], path: Path) -> ValueError:
    """The error for something that is not read."""
    return ValueError(f"{path} holds {what}, which is not read; {', '.join(known)} are")
