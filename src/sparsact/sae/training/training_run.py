"""Training runs: one autoencoder, or several that share the passes of a model."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError, OutputError
from sparsact._common.progress import Progress
from sparsact._common.run_directory import STATE_FILE, RunDirectory
from sparsact.sae.data.activation_rows import open_rows
from sparsact.sae.sae_files import save_sae
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.training.checkpoint import load_checkpoint, save_checkpoint
from sparsact.sae.training.joined_processes import make_accelerator
from sparsact.sae.training.run_data import RunData, open_data
from sparsact.sae.training.run_log import RunLog, check_trackers, json_line
from sparsact.sae.training.run_result import RunResult, finish
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.training.run_state import CHECKPOINT, LOG, METRICS, SAE, open_run
from sparsact.sae.training.sae_trainer import SAETrainer
from sparsact.sae.weight_directory import find_directory

if TYPE_CHECKING:
    from accelerate import Accelerator


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
            holds a run already, or there is none to resume; the layer matches several modules,
            for which there is :func:`train_runs`.
        OutputError: the disk is full. The files written are complete, and the run can be resumed.
    """
    return _train(config, progress, several=False)[""]


def train_runs(config: SAERun, progress: Progress = lambda *_: None) -> dict[str, RunResult]:
    """As :func:`train_run`, for every module that the layer pattern matches.

    The model runs once for all of them, while activations are stored or while they are streamed.

    Returns:
        name of the module → the result. The directory of each run has that name in ``out``; a
        single run has no name, and is in ``out`` itself.

    Raises:
        InputError: as there; several modules with trackers.
        OutputError: as there.
    """
    return _train(config, progress, several=True)


def _train(config: SAERun, progress: Progress, several: bool) -> dict[str, RunResult]:
    folder = Path(config.out)
    check_trackers(config.trackers)
    accelerator = make_accelerator(log_with=list(config.trackers) or None, project_dir=folder)
    config.check(accelerator.num_processes)
    data = config.source.data
    fingerprint = None if data is None else open_rows(data).fingerprint()
    if accelerator.is_main_process:
        open_run(folder, config, fingerprint)
    accelerator.wait_for_everyone()
    try:
        runs = _runs(config, progress, accelerator, several)
    except (ValueError, OSError) as error:
        if not config.resume and not isinstance(error, OutputError):
            (folder / STATE_FILE).unlink(missing_ok=True)  # so that the run can start again
        raise
    _advance(runs, progress)
    results = {name: run.finish() for name, run in runs.items()}
    accelerator.end_training()
    return results


def _runs(
    config: SAERun, progress: Progress, accelerator: "Accelerator", several: bool
) -> dict[str, "_Run"]:
    """The runs, each in the state of its last checkpoint if there is one."""
    folder = Path(config.out)
    data = open_data(config, folder, progress, accelerator)
    if len(data) == 1:
        return {"": _Run(config, next(iter(data.values())), accelerator)}
    if not several:
        names = ", ".join(data)
        raise InputError(f"layer={config.source.layer!r} matches {names}: name one")
    if config.trackers:
        raise InputError("trackers= follow one run, but the layer matches several: leave them out")
    runs = {}
    for name, own in data.items():
        settings = dataclasses.replace(
            config,
            source=dataclasses.replace(
                config.source,
                layer=name,
                cache=None if config.source.stream else str(folder / "activations" / name),
            ),
            out=str(folder / name),
            resume=(folder / name / STATE_FILE).exists(),
        )
        if accelerator.is_main_process:
            open_run(folder / name, settings, None)
        accelerator.wait_for_everyone()
        runs[name] = _Run(settings, own, accelerator)
    return runs


def _advance(runs: dict[str, "_Run"], progress: Progress) -> None:
    """Take the steps of all runs in turns, so that they need the same activations."""
    total = sum(run.config.steps for run in runs.values())
    going = list(runs.values())
    try:
        while going:
            run = min(going, key=lambda one: one.trainer.steps)
            if not run.advance():
                going.remove(run)
            progress(sum(one.trainer.steps for one in runs.values()), total, "training")
    finally:
        for run in runs.values():
            run.close()


class _Run:
    """One autoencoder, its data and its directory."""

    def __init__(self, config: SAERun, data: RunData, accelerator: "Accelerator") -> None:
        self.config, self.data, self.accelerator = config, data, accelerator
        self.folder = Path(config.out)
        if data.rows.total < config.batch_size:
            raise InputError(
                f"a batch of {config.batch_size} rows needs more than {data.rows.total}"
            )
        torch.manual_seed(config.training.seed)
        sae = SparseAutoencoder(config.autoencoder(data.rows.width))
        sae.trained_on = data.origin
        self.trainer = SAETrainer(sae, config.training, accelerator=accelerator)
        if find_directory(self.folder / CHECKPOINT).exists():
            load_checkpoint(self.trainer, self.folder / CHECKPOINT)
        run = {"name": self.folder.name, "id": RunDirectory.open(self.folder).state["id"]}
        settings = {**dataclasses.asdict(config), **dataclasses.asdict(config.training)}
        self.log = RunLog(self.folder / LOG, accelerator, self.trainer.steps, run, settings)
        self._stats = self.trainer.run(self._batches(), config.steps)

    def advance(self) -> bool:
        """Take a step, and log it. False if there is none left."""
        stats = next(self._stats, None)
        if stats is None:
            return False
        self.log.add(stats)
        if stats.step % self.config.checkpoint_every == 0:
            self.log.flush()
            save_checkpoint(self.trainer, self.folder / CHECKPOINT)
        return True

    def close(self) -> None:
        """Write and close the log."""
        self.log.__exit__(None, None, None)

    def finish(self) -> RunResult:
        """Measure the autoencoder, and write it."""
        save_checkpoint(self.trainer, self.folder / CHECKPOINT)
        result = finish(self.trainer, self.data.rows, self.data.held_out, self.config.batch_size)
        if self.accelerator.is_main_process:
            save_sae(result.autoencoder, self.folder / SAE)
            write_text(self.folder / METRICS, json_line(result.figures()))
        return result

    def _batches(self) -> Iterator[torch.Tensor]:
        return self.data.rows.batches(
            self.config.batch_size,
            seed=self.config.training.seed,
            buffer_rows=self.config.buffer_rows,
            start=self.trainer.steps,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
