"""The directory of a run: its settings, and whether the run in it can be resumed."""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsact._common.errors import InputError
from sparsact._common.run_directory import RunDirectory
from sparsact.sae.sae_files import SAE_FILES
from sparsact.sae.training.checkpoint import CHECKPOINT_FILES
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.weight_directory import check_replaceable

LOG, CHECKPOINT, SAE, METRICS, ACTIVATIONS = (
    "log.jsonl",
    "checkpoint",
    "sae",
    "metrics.json",
    "activations",
)

DRAWN = "drawn at random"
"""How activations are held out, as the state of a run records it."""


def open_run(folder: Path, config: SAERun, fingerprint: str | None) -> None:
    """Create the directory of a run, or check that the run in it can be resumed.

    Args:
        folder: the directory.
        config: settings of the run.
        fingerprint: that of the data, if it comes from files.
    """
    settings = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(config, resume=False))))
    if not config.resume:
        state = {"run": settings, "id": uuid.uuid4().hex, "data": fingerprint}
        state["held_out"] = DRAWN
        RunDirectory.create(folder, state, leftovers=[ACTIVATIONS])
        return
    state = RunDirectory.open(folder).state
    if state.get("held_out") != DRAWN:
        raise InputError(
            f"the run in {folder} was started by a version that held out the last activations; now "
            "they are drawn at random: start another run"
        )
    differing = list(_differing(_fixed(state["run"]), _fixed(settings)))
    if differing:
        raise InputError(
            f"the run in {folder} was started with another {', '.join(differing)}: use the same "
            "settings (only steps=, trackers= and shard= can change)"
        )
    if state.get("data") != fingerprint:
        raise InputError(
            f"the run in {folder} was started on other activations than {config.source.data} holds "
            "now: start another run"
        )
    check_replaceable(folder / SAE, SAE_FILES)
    check_replaceable(folder / CHECKPOINT, CHECKPOINT_FILES)


def _fixed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that cannot change when a run is resumed."""
    free = {"steps", "trackers", "training"}
    training = {name: value for name, value in settings["training"].items() if name != "shard"}
    fixed = {name: value for name, value in settings.items() if name not in free}
    return fixed | {"training": training}


def _differing(stored: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    """The names of settings, also in nested groups, that have changed."""
    for name, value in current.items():
        other = stored.get(name)
        if name not in stored:
            continue  # a setting that is newer than the run
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differing(other, value)
        elif other != value:
            yield name
