"""Autoencoders and checkpoints on disk: safetensors and JSON, written whole or not at all."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact.sae.config import SAEConfig
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.read import read_object, read_tensors
from sparsact.sae.train import SAETrainer

SAE_FILES = WEIGHTS, CONFIG = "sae.safetensors", "config.json"
CHECKPOINT_FILES = STATE, PLAIN = "state.safetensors", "state.json"


def save_sae(sae: SparseAutoencoder, path: str | Path) -> Path:
    """Write an autoencoder as a directory, its input scale folded into the weights.

    Args:
        sae: left as it is.
        path: the directory; an autoencoder there is replaced, once the new one is whole.

    Returns:
        the directory.

    Raises:
        FileExistsError: what is there is no autoencoder, or holds other files too.
        OutputError: an OSError: the disk is full, or refuses; what stood there is there.
    """
    folded = copy.deepcopy(sae).fold_scale_()
    return write_whole(Path(path), dict(folded.state_dict()), asdict(sae.config), SAE_FILES)


def load_sae(path: str | Path, activation: nn.Module | None = None) -> SparseAutoencoder:
    """Read what :func:`save_sae` wrote.

    Args:
        path: the directory.
        activation: the threshold module of a ``"custom"`` kind, whose state is read too.

    Returns:
        the autoencoder, in eval mode.

    Raises:
        FileNotFoundError: there is no autoencoder.
        ValueError: a file is spoilt, or the weights are not those of the settings.
    """
    path = find_whole(Path(path))
    settings, tensors = read_object(path / CONFIG), read_tensors(path / WEIGHTS)
    try:
        config = SAEConfig(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path / CONFIG} is not of an autoencoder: {error}") from error
    sae = SparseAutoencoder(config, activation)
    try:
        sae.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path / WEIGHTS} does not fit {path / CONFIG}: {error}") from error
    return sae.eval()


def save_checkpoint(trainer: SAETrainer, path: str | Path) -> Path:
    """Write all that a training needs to go on; the last whole checkpoint is there until then.

    Every process must call it; the first one writes.

    Raises:
        FileExistsError: what is there is no checkpoint, or holds other files too.
        OutputError: an OSError: the disk is full, or refuses; the last checkpoint is there.
    """
    tensors: dict[str, Tensor] = {}
    plain = _flatten(trainer.state_dict(), "", tensors)
    if trainer.accelerator.is_main_process:
        write_whole(Path(path), tensors, plain, CHECKPOINT_FILES)
    return Path(path)


def load_checkpoint(trainer: SAETrainer, path: str | Path) -> None:
    """Put a trainer into the state that :func:`save_checkpoint` wrote.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: a file is spoilt.
    """
    path = find_whole(Path(path))
    plain, tensors = read_object(path / PLAIN), read_tensors(path / STATE)
    trainer.load_state_dict(_nest(plain, tensors))


def write_whole(path: Path, tensors: dict[str, Tensor], plain: Any, names: tuple[str, str]) -> Path:
    """A directory of one safetensors and one JSON file, which takes the place of `path`.

    The old directory is moved aside before the new one is renamed, and removed after; whoever
    reads in between, or after a crash there, finds the old one by :func:`find_whole`.

    Raises:
        FileExistsError: `path` holds anything but those two files.
    """
    check_own(path, names)
    new, old = _beside(path, "new"), _beside(path, "old")
    with writing(path):
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            write_tensors(new / names[0], tensors)
            write_text(new / names[1], json.dumps(plain, indent=2) + "\n")
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            new.rename(path)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return path


def find_whole(path: Path) -> Path:
    """`path`, or what stood there before a replacement that did not end."""
    old = _beside(path, "old")
    return old if old.exists() and not path.exists() else path


def _beside(path: Path, state: str) -> Path:
    """Where a directory is while it is replaced: a name that nobody gives to anything else."""
    return path.with_name(f".{path.name}.sparsact-{state}")


def check_own(path: Path, names: tuple[str, str]) -> None:
    """Raise FileExistsError unless nothing would be lost but files of those names."""
    if not path.exists():
        return
    found = {file.name for file in path.iterdir()} if path.is_dir() else None
    if found is None or (found and found != set(names)):
        raise FileExistsError(
            f"{path} is not a directory of {' and '.join(names)} alone, and is not replaced: "
            "choose another, or move it away"
        )


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` with each tensor replaced by a reference, and put into `tensors`."""
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
    if isinstance(value, list):
        return [_nest(item, tensors) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _nest(item, tensors) for key, item in value["dict"]}
    return value
