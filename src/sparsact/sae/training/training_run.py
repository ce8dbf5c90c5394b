"""A training run: its settings, its directory, and resuming it."""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError, OutputError
from sparsact._common.progress import Progress
from sparsact._common.run_directory import STATE_FILE, RunDirectory
from sparsact.sae.data.activation_rows import Rows, open_rows
from sparsact.sae.data.activation_source import ActivationSource, check_at_least
from sparsact.sae.data.harvesting import harvest, origin_of
from sparsact.sae.kinds import PresetName
from sparsact.sae.sae_config import SAEConfig, SAETrainConfig
from sparsact.sae.sae_files import SAE_FILES, save_sae
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn
from sparsact.sae.training.checkpoint import (
    CHECKPOINT_FILES,
    load_checkpoint,
    save_checkpoint,
)
from sparsact.sae.training.joined_processes import make_accelerator
from sparsact.sae.training.run_log import RunLog, Tracker, check_trackers, json_line
from sparsact.sae.training.run_result import RunResult, finish
from sparsact.sae.training.sae_trainer import SAETrainer
from sparsact.sae.training.schedule import warmups
from sparsact.sae.training.step_stats import SAEStats
from sparsact.sae.weight_directory import check_replaceable, find_directory

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG, CHECKPOINT, SAE, METRICS, ACTIVATIONS = (
    "log.jsonl",
    "checkpoint",
    "sae",
    "metrics.json",
    "activations",
)

DRAWN = "drawn at random"
"""How activations are held out, as the state of a run records it."""


@dataclass(frozen=True)
class SAERun:
    """Train a sparse autoencoder."""

    source: ActivationSource = field(default_factory=ActivationSource)
    training: SAETrainConfig = field(default_factory=SAETrainConfig)
    activation: PresetName = "topk"
    """The kind of autoencoder."""
    d_sae: int = 4096
    """Number of latents."""
    k: int = 32
    """Number of latents that topk and batch_topk keep."""
    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 2048
    """Activations in a step, summed over processes."""
    held_out: int = 8192
    """Activations, drawn at random, that are kept from training for the figures at the end. With
    a target L0, half of them set the thresholds and the other half is measured."""
    buffer_rows: int = 262_144
    """Activations that are in memory and shuffled together. Processes share them."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    out: str = "runs/sae"
    """Directory of the run."""
    resume: bool = False
    """Resume the run in that directory."""
    trackers: tuple[Tracker, ...] = ()
    """Where steps are logged besides log.jsonl: tensorboard (in the run), wandb."""


def autoencoder_in(folder: Path) -> Path:
    """The directory of a run's autoencoder, or `folder` itself if it is an autoencoder."""
    inside = find_directory(folder / SAE)
    return inside if inside.is_dir() else folder


def train_run(config: SAERun, progress: Progress = lambda *_: None) -> RunResult:
    """Train an autoencoder, and write the directory of the run.

    The directory holds ``config.json``, ``log.jsonl`` (a line per step), ``checkpoint/``,
    ``sae/`` (the autoencoder, for `load_sae`) and ``metrics.json``. If a run is interrupted at
    any moment, the same settings with ``resume=True`` give the curve of an uninterrupted run.

    Under ``torchrun`` or ``accelerate launch`` the processes share each batch, and the first one
    writes. They must see the same directory.

    Args:
        config: settings of the run.
        progress: called after each step.

    Returns:
        the figures on held-out activations, and notes on them.

    Raises:
        InputError: settings contradict each other or the data, files are missing, the directory
            holds a run already, or there is none to resume.
        OutputError: the disk is full. The files written are complete, and the run can be resumed.
    """
    folder = Path(config.out)
    check_trackers(config.trackers)
    accelerator = make_accelerator(log_with=list(config.trackers) or None, project_dir=folder)
    trainer, rows, held_out = _set_up(config, folder, progress, accelerator)
    with _open_log(config, folder, trainer) as log:
        for stats in _steps(config, trainer, rows):
            log.add(stats)
            if stats.step % config.checkpoint_every == 0:
                log.flush()
                save_checkpoint(trainer, folder / CHECKPOINT)
            progress(stats.step, config.steps, "training")
    save_checkpoint(trainer, folder / CHECKPOINT)
    result = finish(trainer, rows, held_out, config.batch_size)
    if accelerator.is_main_process:
        save_sae(result.autoencoder, folder / SAE)
        write_text(folder / METRICS, json_line(result.figures()))
    accelerator.end_training()
    return result


def _set_up(
    config: SAERun, folder: Path, progress: Progress, accelerator: "Accelerator"
) -> tuple[SAETrainer, Rows, Tensor]:
    """The trainer, in the state of the last checkpoint if there is one, and its data."""
    _check(config)
    if config.batch_size % accelerator.num_processes:
        raise InputError(
            f"batch_size={config.batch_size} cannot be divided among "
            f"{accelerator.num_processes} processes"
        )
    fingerprint = (
        None if config.source.data is None else open_rows(config.source.data).fingerprint()
    )
    if accelerator.is_main_process:
        _open_directory(folder, config, fingerprint)
    accelerator.wait_for_everyone()
    try:
        return _prepare(config, folder, progress, accelerator)
    except (ValueError, OSError) as error:
        if not config.resume and not isinstance(error, OutputError):
            (folder / STATE_FILE).unlink(missing_ok=True)  # so that the run can start again
        raise


def _prepare(
    config: SAERun, folder: Path, progress: Progress, accelerator: "Accelerator"
) -> tuple[SAETrainer, Rows, Tensor]:
    rows = _rows(config, folder, progress, accelerator)
    origin = _origin(config, folder, rows)
    rows, held_out = rows.split(config.held_out, config.training.seed)
    if rows.total < config.batch_size:
        raise InputError(f"a batch of {config.batch_size} rows needs more than {rows.total}")
    torch.manual_seed(config.training.seed)
    sae = SparseAutoencoder(_sae_config(config, rows.width))
    sae.trained_on = origin
    trainer = SAETrainer(sae, config.training, accelerator=accelerator)
    if find_directory(folder / CHECKPOINT).exists():
        load_checkpoint(trainer, folder / CHECKPOINT)
    return trainer, rows, held_out


def _check(config: SAERun) -> None:
    source, training = config.source, config.training
    if (source.data is None) == (source.model is None):
        raise InputError("give either data=, or model= with layer= and text=")
    if source.model is not None:
        source.check()
    _, warmup = warmups(training, config.steps)
    if training.target_l0 is not None and config.steps <= warmup:
        raise InputError(
            f"target_l0= takes effect after the sparsity warmup of {warmup} steps: raise steps= "
            "above that, or lower sparsity_warmup_steps="
        )
    for name in ("steps", "batch_size", "buffer_rows", "checkpoint_every"):
        check_at_least(name, getattr(config, name), 1)
    # with a target one half sets the thresholds, and the other is measured
    check_at_least("held_out", config.held_out, 1 if training.target_l0 is None else 2)
    if training.lr_decay_steps > config.steps:
        raise InputError(
            f"lr_decay_steps={training.lr_decay_steps} exceeds steps={config.steps}: the decay is "
            "a part of the run"
        )
    _sae_config(config, 1)


def _steps(config: SAERun, trainer: SAETrainer, rows: Rows) -> Iterator[SAEStats]:
    batches = rows.batches(
        config.batch_size,
        seed=config.training.seed,
        buffer_rows=config.buffer_rows,
        start=trainer.steps,
        rank=trainer.accelerator.process_index,
        processes=trainer.accelerator.num_processes,
    )
    return trainer.run(batches, config.steps)


def _open_log(config: SAERun, folder: Path, trainer: SAETrainer) -> RunLog:
    run = {"name": folder.name, "id": RunDirectory.open(folder).state["id"]}
    settings = {**dataclasses.asdict(config), **dataclasses.asdict(config.training)}
    return RunLog(folder / LOG, trainer.accelerator, trainer.steps, run, settings)


def _origin(config: SAERun, folder: Path, rows: Rows) -> TrainedOn:
    """Where the activations come from, as the file of the autoencoder records it."""
    source = config.source
    origin = origin_of(Path(source.data or source.cache or folder / ACTIVATIONS))
    return dataclasses.replace(
        origin,
        model=source.model or origin.model,
        data=rows.fingerprint(),
        held_out=config.held_out,
        seed=config.training.seed,
    )


def _sae_config(config: SAERun, width: int) -> SAEConfig:
    return SAEConfig(width, config.d_sae, config.activation, k=config.k)


def _rows(config: SAERun, folder: Path, progress: Progress, accelerator: "Accelerator") -> Rows:
    source = config.source
    if source.data is not None:
        return open_rows(source.data)
    model, layer, tokens = source.load()
    return harvest(
        model,
        layer,
        tokens,
        source.cache or folder / ACTIVATIONS,
        batch_rows=source.batch_rows,
        progress=progress,
        accelerator=accelerator,
    )


def _open_directory(folder: Path, config: SAERun, fingerprint: str | None) -> None:
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
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differing(other, value)
        elif other != value:
            yield name
