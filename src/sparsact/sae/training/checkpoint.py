"""Checkpoints of a training, from which it resumes bit for bit."""

from pathlib import Path
from typing import Any

from torch import Tensor

from sparsact.sae.training.sae_trainer import SAETrainer
from sparsact.sae.weight_directory import (
    find_directory,
    read_object,
    read_tensors,
    replace_directory,
)

CHECKPOINT_FILES = STATE, PLAIN = "state.safetensors", "state.json"


def save_checkpoint(trainer: SAETrainer, path: str | Path) -> Path:
    """Write everything a training needs to resume. The last checkpoint stays until then.

    All processes must call this; the first one writes.

    Raises:
        InputError: the path holds no checkpoint, or other files as well.
        OutputError: an OSError: the disk is full, or refuses. The last checkpoint is still there.
    """
    tensors: dict[str, Tensor] = {}
    plain = _flatten(trainer.state_dict(), "", tensors)
    if trainer.accelerator.is_main_process:
        replace_directory(Path(path), tensors, plain, CHECKPOINT_FILES)
    return Path(path)


def load_checkpoint(trainer: SAETrainer, path: str | Path) -> None:
    """Put a trainer into the state that :func:`save_checkpoint` wrote.

    Raises:
        MissingInputError: a FileNotFoundError: there is no checkpoint.
        InputError: a file is damaged.
    """
    path = find_directory(Path(path))
    plain, tensors = read_object(path / PLAIN), read_tensors(path / STATE)
    trainer.load_state_dict(_nest(plain, tensors))


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` with each tensor replaced by a reference and added to `tensors`."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, dict):
        items = [[key, _flatten(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        return [_flatten(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
    return value


def _nest(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of :func:`_flatten`."""
    if isinstance(value, list):
        return [_nest(item, tensors) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _nest(item, tensors) for key, item in value["dict"]}
    return value
