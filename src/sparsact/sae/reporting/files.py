"""What a training left in its directory, as far as its report shows it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsact.sae.config import SAEConfig
from sparsact.sae.run import ACTIVATIONS, CONFIG, LOG, METRICS, autoencoder_in


@dataclass(frozen=True)
class Run:
    """A run, or an autoencoder by itself, which has no history.

    Attributes:
        autoencoder: the directory that `load_sae` reads.
        flags: of the training, as `SAERun` has them; None without one.
        log: a line per step: the fields of `SAEStats`.
        metrics: the held-out figures.
    """

    autoencoder: Path
    flags: dict[str, Any] | None
    log: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]

    @property
    def density(self) -> Tensor | None:
        """(d_sae,) share of the held-out activations on which each latent fired."""
        found = self.metrics.get("density")
        return None if found is None else torch.tensor(found)

    @property
    def source(self) -> dict[str, Any]:
        """The model and the text that activations came from, by the names of the flags."""
        if self.flags is None or self.flags["source"]["model"] is None:
            return {}
        found: dict[str, Any] = {**self.flags["source"]}
        found["text"] = tuple(found["text"])
        found["cache"] = found["cache"] or str(self.autoencoder.parent / ACTIVATIONS)
        return found

    def facts(self, shape: SAEConfig) -> tuple[str, ...]:
        """What was trained, on what and how, a line each."""
        k = f", k = {shape.k}" if shape.selects else ""
        size = f"{shape.activation}{k}: {shape.d_in} → {shape.d_sae} latents → {shape.width_out}"
        if self.flags is None:
            return (size, f"read from {self.autoencoder}, which has no record of its training")
        source, training = self.flags["source"], self.flags["training"]
        origin = source["data"] or (
            f"{source['layer']} of {source['model']}, reading {', '.join(source['text'])}"
        )
        return (
            size,
            f"activations of {origin}",
            f"{len(self.log)} steps of {self.flags['batch_size']} activations, learning rate "
            f"{training['lr']:g}, precision {training['mixed_precision']}, seed {training['seed']}",
        )


def read_run(folder: Path) -> Run:
    """The run in a directory, or the autoencoder that is there by itself.

    Raises:
        FileNotFoundError: a run that has not come to its end.
    """
    autoencoder = autoencoder_in(folder)
    if not (folder / LOG).exists():
        return Run(autoencoder, None, (), {})
    if autoencoder == folder:
        raise FileNotFoundError(
            f"the run in {folder} has no autoencoder yet: finish it by --resume"
        )
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    return Run(
        autoencoder=autoencoder,
        flags=json.loads((folder / CONFIG).read_text(encoding="utf-8"))["run"],
        log=tuple(_numbers(line) for line in lines),
        metrics=_numbers((folder / METRICS).read_text(encoding="utf-8")),
    )


def _numbers(line: str) -> dict[str, Any]:
    """The figures on a line of JSON, in which null stands for what is not finite."""
    figures: dict[str, Any] = json.loads(line)
    return {name: math.nan if value is None else value for name, value in figures.items()}
