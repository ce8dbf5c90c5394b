"""The files of a training run that its report shows."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import MissingInputError
from sparsact._common.run_directory import RunDirectory
from sparsact.sae.sae_config import SAEConfig
from sparsact.sae.training.run_state import ACTIVATIONS, LOG, METRICS
from sparsact.sae.training.training_run import autoencoder_in


@dataclass(frozen=True)
class Run:
    """A run, or an autoencoder by itself, which has no history.

    Attributes:
        autoencoder: the directory that `load_sae` reads.
        settings: the fields of `SAERun`; None for an autoencoder by itself.
        log: a line per step, with the fields of `SAEStats`.
        metrics: the held-out figures.
    """

    autoencoder: Path
    settings: dict[str, Any] | None
    log: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]

    @property
    def density(self) -> Tensor | None:
        """(d_sae,) share of held-out activations on which each latent fired."""
        density = self.metrics.get("density")
        return None if density is None else torch.tensor(density)

    @property
    def source(self) -> dict[str, Any]:
        """The fields of `ActivationSource`, if the activations came from a model; else empty."""
        if self.settings is None or self.settings["source"]["model"] is None:
            return {}
        source: dict[str, Any] = {**self.settings["source"]}
        source["text"] = tuple(source["text"])
        source["drop_tokens"] = tuple(source.get("drop_tokens", ()))
        if not source.get("stream"):
            source["cache"] = source["cache"] or str(self.autoencoder.parent / ACTIVATIONS)
        return source

    def facts(self, shape: SAEConfig) -> tuple[str, ...]:
        """What was trained, on which activations, and how: a line each."""
        k = f", k = {shape.k}" if shape.selects else ""
        size = f"{shape.activation}{k}: {shape.d_in} → {shape.d_sae} latents → {shape.width_out}"
        if self.settings is None:
            return (size, f"read from {self.autoencoder}, which has no record of its training")
        source, training = self.settings["source"], self.settings["training"]
        origin = source["data"] or (
            f"{source['layer']} of {source['model']}, reading {', '.join(source['text'])}"
        )
        return (
            size,
            f"activations of {origin}",
            f"{len(self.log)} steps of {self.settings['batch_size']} activations, learning rate "
            f"{training['lr']:g}, precision {training['mixed_precision']}, seed {training['seed']}",
        )


def read_run(folder: Path) -> Run:
    """The run in a directory, or the autoencoder that is there by itself.

    Raises:
        MissingInputError: the run is not finished.
    """
    autoencoder = autoencoder_in(folder)
    if not (folder / LOG).exists():
        return Run(autoencoder, None, (), {})
    if autoencoder == folder:
        raise MissingInputError(
            f"the run in {folder} has no autoencoder yet: finish it with resume="
        )
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    return Run(
        autoencoder=autoencoder,
        settings=RunDirectory.open(folder).state["run"],
        log=tuple(_numbers(line) for line in lines),
        metrics=_numbers((folder / METRICS).read_text(encoding="utf-8")),
    )


def _numbers(line: str) -> dict[str, Any]:
    """The figures on a line of JSON, where null stands for a value that is not finite."""
    figures: dict[str, Any] = json.loads(line)
    return {name: math.nan if value is None else value for name, value in figures.items()}
