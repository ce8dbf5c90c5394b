"""Autoencoders on disk."""

import copy
from dataclasses import asdict
from pathlib import Path

from torch import nn

from sparsact._common.errors import InputError
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.weight_directory import (
    find_directory,
    read_object,
    read_tensors,
    replace_directory,
)

SAE_FILES = WEIGHTS, CONFIG = "sae.safetensors", "config.json"
TRAINED_ON = "trained_on"
ADDED = ("normalize", "skip")
"""Settings that are written only if they are not the default."""


def save_sae(sae: SparseAutoencoder, path: str | Path) -> Path:
    """Write an autoencoder as a directory, with its input scale folded into the weights.

    Args:
        sae: not changed.
        path: the directory. An autoencoder there is replaced once the new one is complete.

    Returns:
        the directory.

    Raises:
        InputError: the path holds no autoencoder, or other files as well.
        OutputError: an OSError: the disk is full, or refuses. What was there is still there.
    """
    folded = copy.deepcopy(sae).fold_scale_()
    settings = asdict(sae.config)
    for name in ADDED:  # so that version 0.1 can read what it knows
        if settings[name] == getattr(SAEConfig, name):
            del settings[name]
    if sae.trained_on is not None:
        settings[TRAINED_ON] = asdict(sae.trained_on)
    return replace_directory(Path(path), dict(folded.state_dict()), settings, SAE_FILES)


def load_sae(path: str | Path, activation: nn.Module | None = None) -> SparseAutoencoder:
    """Read what :func:`save_sae` wrote.

    Args:
        path: the directory.
        activation: the threshold module of a ``"custom"`` kind. Its state is read, too.

    Returns:
        the autoencoder, in eval mode.

    Raises:
        MissingInputError: a FileNotFoundError: there is no autoencoder.
        InputError: a file is damaged, or the weights do not fit the settings.
    """
    path = find_directory(Path(path))
    settings, tensors = read_object(path / CONFIG), read_tensors(path / WEIGHTS)
    trained_on = settings.pop(TRAINED_ON, None)
    try:
        config = SAEConfig(**settings)
        origin = None if trained_on is None else TrainedOn(**trained_on)
    except (TypeError, AttributeError, InputError) as error:
        raise InputError(f"{path / CONFIG} does not describe an autoencoder: {error}") from error
    sae = SparseAutoencoder(config, activation)
    sae.trained_on = origin
    try:
        sae.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path / WEIGHTS} does not fit {path / CONFIG}: {error}") from error
    return sae.eval()
