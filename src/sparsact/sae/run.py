"""A training from the command line: its flags, its directory, and going on after a crash."""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import tyro
from torch import Tensor

import sparsact
from sparsact._common.atomic import write_text, writing
from sparsact._common.errors import OutputError, about_the_input
from sparsact._common.progress import Progress
from sparsact.sae.activations import Rows, harvest, open_rows
from sparsact.sae.config import Kind, SAEConfig, SAETrainConfig
from sparsact.sae.files import (
    CHECKPOINT_FILES,
    SAE_FILES,
    check_own,
    find_whole,
    load_checkpoint,
    save_checkpoint,
    save_sae,
)
from sparsact.sae.joined import make_accelerator
from sparsact.sae.log import RunLog, Tracker, check_trackers, json_line
from sparsact.sae.metrics import SAEMetrics, evaluate
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.source import Source, check_at_least
from sparsact.sae.stats import SAEStats
from sparsact.sae.train import SAETrainer

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG, CHECKPOINT, SAE, CONFIG, METRICS, ACTIVATIONS = (
    "log.jsonl",
    "checkpoint",
    "sae",
    "config.json",
    "metrics.json",
    "activations",
)


@dataclass(frozen=True)
class SAERun:
    """Train a sparse autoencoder."""

    source: tyro.conf.OmitArgPrefixes[Source] = field(default_factory=Source)
    training: tyro.conf.OmitArgPrefixes[SAETrainConfig] = field(default_factory=SAETrainConfig)
    activation: Literal["relu", "topk", "batch_topk", "jumprelu", "softshrink", "gated"] = "topk"
    """The threshold."""
    d_sae: int = 4096
    """Number of latents."""
    k: int = 32
    """Latents that topk and batch_topk keep."""
    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 2048
    """Activations in a step, of all processes together."""
    held_out: int = 8192
    """Activations that are not trained on, for the figures at the end."""
    buffer_rows: int = 262_144
    """Activations in memory, shuffled together; of several processes each has its part."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    out: str = "runs/sae"
    """Directory of the run."""
    resume: bool = False
    """Go on with the run in that directory."""
    trackers: tuple[Tracker, ...] = ()
    """Where each step is logged, besides log.jsonl: tensorboard (in the run), wandb."""


def autoencoder_in(folder: Path) -> Path:
    """The directory of a run's autoencoder, or that of one by itself, as which it was given."""
    inside = find_whole(folder / SAE)
    return inside if inside.is_dir() else folder


def train(config: SAERun, progress: Progress = lambda *_: None) -> SAEMetrics:
    """Train as the flags say, and write the run's directory.

    It holds ``config.json``, ``log.jsonl`` (a line per step), ``checkpoint/``, ``sae/`` (the
    autoencoder, as `load_sae` reads it) and ``metrics.json``. Interrupted at any moment, the same
    flags with ``resume`` give the curve of a training that was not.

    Under ``torchrun`` or ``accelerate launch`` the processes share each batch, and the first one
    writes; they must see the same directory.

    Returns:
        the figures on held-out activations.

    Raises:
        InputError: flags that contradict each other or the data, files that are missing, a
            directory that holds a run already, or none to resume.
        OutputError: the disk is full; what was written is whole, and can be resumed.
    """
    folder = Path(config.out)
    check_trackers(config.trackers)
    accelerator = make_accelerator(log_with=list(config.trackers) or None, project_dir=folder)
    with about_the_input():
        trainer, rows, held_out = _set_up(config, folder, progress, accelerator)
    with _log(config, folder, trainer) as log:
        for stats in _steps(config, trainer, rows):
            log.add(stats)
            if stats.step % config.checkpoint_every == 0:
                log.flush()
                save_checkpoint(trainer, folder / CHECKPOINT)
            progress(stats.step, config.steps, "training")
    metrics = _finish(config, trainer, held_out, folder)
    accelerator.end_training()
    return metrics


def _set_up(
    config: SAERun, folder: Path, progress: Progress, accelerator: "Accelerator"
) -> tuple[SAETrainer, Rows, Tensor]:
    """The trainer, where a run that goes on had it, and its data."""
    _check(config)
    if config.batch_size % accelerator.num_processes:
        raise ValueError(
            f"--batch-size {config.batch_size} cannot be divided among "
            f"{accelerator.num_processes} processes"
        )
    data = None if config.source.data is None else open_rows(config.source.data).fingerprint()
    if accelerator.is_main_process:
        _open(folder, config, data)
    accelerator.wait_for_everyone()
    try:
        return _prepared(config, folder, progress, accelerator)
    except (ValueError, OSError) as error:
        if not config.resume and not isinstance(error, OutputError):
            (folder / CONFIG).unlink(missing_ok=True)  # the flags can be corrected
        raise


def _prepared(
    config: SAERun, folder: Path, progress: Progress, accelerator: "Accelerator"
) -> tuple[SAETrainer, Rows, Tensor]:
    rows, held_out = _rows(config, folder, progress, accelerator).split(config.held_out)
    if not bool(held_out.isfinite().all()):
        raise ValueError("NaN or infinity in the rows that are held out: leave such rows out")
    if rows.total < config.batch_size:
        raise ValueError(f"a batch of {config.batch_size} rows needs more than {rows.total}")
    torch.manual_seed(config.training.seed)
    sae = SparseAutoencoder(_shape(config, rows.width))
    trainer = SAETrainer(sae, config.training, accelerator=accelerator)
    if find_whole(folder / CHECKPOINT).exists():
        load_checkpoint(trainer, folder / CHECKPOINT)
    return trainer, rows, held_out


def _check(config: SAERun) -> None:
    source, training = config.source, config.training
    if (source.data is None) == (source.model is None):
        raise ValueError("give either --data, or --model with --layer and --text")
    if source.model is not None:
        source.check()
    if training.target_l0 is not None and config.steps <= training.sparsity_warmup_steps:
        raise ValueError(
            f"--target-l0 is sought after the sparsity warmup of {training.sparsity_warmup_steps} "
            f"steps: give more than that as --steps, or a smaller --sparsity-warmup-steps"
        )
    for name in ("steps", "batch_size", "buffer_rows", "checkpoint_every"):
        check_at_least(name, getattr(config, name), 1)
    # of two, one sets the thresholds and one is measured
    check_at_least("held_out", config.held_out, 1 if training.target_l0 is None else 2)
    _shape(config, 1)


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


def _log(config: SAERun, folder: Path, trainer: SAETrainer) -> RunLog:
    run = {"name": folder.name, "id": json.loads((folder / CONFIG).read_text())["id"]}
    flags = {**dataclasses.asdict(config), **dataclasses.asdict(config.training)}
    return RunLog(folder / LOG, trainer.accelerator, trainer.steps, run, flags)


def _finish(config: SAERun, trainer: SAETrainer, held_out: Tensor, folder: Path) -> SAEMetrics:
    """Bring L0 to its target, measure on the other half of what was held out, and save."""
    half = len(held_out) // 2
    save_checkpoint(trainer, folder / CHECKPOINT)
    if config.training.target_l0 is not None:
        trainer.reach_target(held_out[:half])
    sae = trainer.autoencoder()
    metrics = evaluate(sae, held_out[half:].split(config.batch_size))
    if trainer.accelerator.is_main_process:
        save_sae(sae, folder / SAE)
        figures = dataclasses.asdict(metrics) | {"density": metrics.density.tolist()}
        write_text(folder / METRICS, json_line(figures))
    return metrics


def _shape(config: SAERun, width: int) -> SAEConfig:
    kind: Kind = config.activation
    return SAEConfig(width, config.d_sae, kind, k=config.k)


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
        progress=lambda done, total: progress(done, total, "activations"),
        accelerator=accelerator,
    )


def _open(folder: Path, config: SAERun, data: str | None) -> None:
    """Start the directory of a run, or check that what is there is this one's."""
    file = folder / CONFIG
    told = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(config, resume=False))))
    if not config.resume:
        if file.exists():
            raise FileExistsError(
                f"{folder} holds a run: choose another --out, or go on with it by --resume"
            )
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"{folder} is a file: choose another --out")
        others = {found.name for found in folder.iterdir()} if folder.is_dir() else set()
        if others - {ACTIVATIONS}:  # which a start that was refused may have left
            raise FileExistsError(f"{folder} is not empty, and holds no run: choose another --out")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        versions = {"sparsact": sparsact.__version__, "torch": torch.__version__}
        state = {"run": told, "versions": versions, "id": uuid.uuid4().hex, "data": data}
        write_text(file, json.dumps(state, indent=2) + "\n")
        return
    if not file.exists():
        raise FileNotFoundError(f"{folder} holds no run to go on with")
    state = json.loads(file.read_text())
    differing = list(_differing(_fixed(state["run"]), _fixed(told)))
    if differing:
        raise ValueError(
            f"the run in {folder} was started with another {', '.join(differing)}: give the same "
            "flags (only --steps, --trackers and --shard may change)"
        )
    if state.get("data") != data:
        raise ValueError(
            f"the run in {folder} was started on other activations than {config.source.data} holds "
            "now: start another"
        )
    check_own(folder / SAE, SAE_FILES)
    check_own(folder / CHECKPOINT, CHECKPOINT_FILES)


def _fixed(run: dict[str, Any]) -> dict[str, Any]:
    """The flags that a run which goes on must share with the one that was started."""
    free = {"steps", "trackers", "training"}
    training = {name: flag for name, flag in run["training"].items() if name != "shard"}
    return {name: flag for name, flag in run.items() if name not in free} | {"training": training}


def _differing(found: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[str]:
    """The names of flags, in whatever group, that are not as they were."""
    for name, flag in told.items():
        other = found.get(name)
        if isinstance(flag, dict) and isinstance(other, dict):
            yield from _differing(other, flag)
        elif other != flag:
            yield name
