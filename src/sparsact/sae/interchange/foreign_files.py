"""A directory that another library wrote: its settings and tensors, read by name."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.weight_directory import read_tensors

SETTINGS = "cfg.json"


class Tensors:
    """The tensors of a file, in float32. Each is taken once.

    Args:
        file: the file, which errors name.
        content: its tensors; by default the file is read as safetensors.

    Raises:
        MissingInputError: there is no such file.
        InputError: it cannot be read.
    """

    def __init__(self, file: Path, content: Mapping[str, Tensor] | None = None) -> None:
        self.file = file
        content = read_tensors(file) if content is None else content
        self._left = {name: tensor.to(torch.float32) for name, tensor in content.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the tensor of that name.

        Raises:
            InputError: there is none.
        """
        if name not in self._left:
            raise InputError(f"{self.file} holds no {name}, only {', '.join(self._left)}")
        return tuple(self._left[name].shape)

    def sizes(self, name: str) -> tuple[int, int]:
        """The two sizes of the matrix of that name.

        Raises:
            InputError: there is none, or it is no matrix.
        """
        shape = self.shape(name)
        if len(shape) != 2:
            raise InputError(f"{name} in {self.file} must be a matrix, got the shape {shape}")
        return shape[0], shape[1]

    def ignore(self, *names: str) -> None:
        """Leave out tensors that do not change what is computed, if there are any."""
        for name in names:
            self._left.pop(name, None)

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name.

        Raises:
            InputError: there is none, or it has another shape.
        """
        self.shape(name)
        tensor = self._left.pop(name)
        if tensor.shape != shape:
            raise InputError(
                f"{name} in {self.file} must be {shape} as the settings say, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor

    def end(self) -> None:
        """Check that every tensor was taken.

        Raises:
            InputError: some tensors are left, whose effect would be missing.
        """
        if self._left:
            raise InputError(
                f"{self.file} also holds {', '.join(self._left)}: this is an autoencoder of "
                "another kind"
            )


def setting(settings: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    """One setting of the given type.

    Raises:
        InputError: it is missing, or has another type.
    """
    value = settings.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        shown = repr(value) if name in settings else "nothing"
        raise InputError(f"{name} in {path / SETTINGS} must be {kind.__name__}, found {shown}")
    return value


def unsupported(feature: str, supported: Collection[str], path: Path) -> InputError:
    """The error for something that cannot be read."""
    return InputError(
        f"{path} holds {feature}, which cannot be read; supported: {', '.join(supported)}"
    )
