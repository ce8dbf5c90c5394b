"""`sparsact calibrate`: from the flags to a plan."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sparsact._common.progress import Progress
from sparsact.calibration import ThresholdPlan, calibrate, compensate, tune
from sparsact.calibration.calibrate import check_sparsity
from sparsact.llm.config import CalibrateConfig
from sparsact.llm.folder import made
from sparsact.llm.kinds import kind_rows, site_rows
from sparsact.report.language.records import KindRow
from sparsact.text.models import open_model
from sparsact.text.windows import as_batches, choose, read_rows, split

PLAN = "plan.json"
_HELD_OUT = 3  # rows that are calibrated on for one that the sparsity is measured on
_COMPENSATED_ON = 4  # rows for one that is calibrated on


@dataclass(frozen=True)
class Calibrated:
    """A plan that was written.

    Attributes:
        plan: it.
        kinds: its sparsity on rows of the text that it was not calibrated on.
        held_out: how many those are.
    """

    plan: ThresholdPlan
    kinds: tuple[KindRow, ...]
    held_out: int


def make_plan(config: CalibrateConfig, progress: Progress = lambda *_: None) -> Calibrated:
    """Calibrate as the flags say and write the plan.

    Raises:
        OSError: there is no such model or text, or a plan is there already.
        ValueError: a flag is out of its range, the text is too short, the model is no language
            model or has no linear layers that can be read, or its activations are NaN.
    """
    check_rows(config.rows)
    check_sparsity(config.sparsity)
    if config.compensate < 0:
        raise ValueError(f"--compensate takes a rank, or 0 for none; got {config.compensate}")
    if config.tune < 0:
        raise ValueError(f"--tune takes a number of steps, or 0 for none; got {config.tune}")
    if not config.text:
        raise ValueError("--text needs a file")
    _check_out(Path(config.out), config.force)
    with made(Path(config.out)):
        plan, held = _calibrated(config, progress)
        plan.save(config.out)
    return Calibrated(plan, kind_rows(site_rows(plan.sites, plan.achieved)), held)


def _calibrated(config: CalibrateConfig, progress: Progress) -> tuple[ThresholdPlan, int]:
    """A plan, and on how many rows it was measured."""
    progress(0, 1, "loading the model")
    model, tokenizer = open_model(config.model, config.gguf)
    held = held_out_rows(config.rows)
    text = read_rows(model, tokenizer, config.text, config.length, config.rows + held)
    rows, held_out = split(text, held)

    def batches(count: int) -> list[dict[str, Tensor]]:
        return as_batches(choose(rows, min(count, len(rows))))

    plan = calibrate(
        model,
        batches(config.rows),
        config.sparsity,
        score=config.score,
        allocate=config.allocate,
        include=config.include,
        exclude=config.exclude,
        keep_first=config.keep_first,
        held_out=as_batches(held_out),
        progress=progress,
    )
    if config.compensate:
        seen = batches(_COMPENSATED_ON * config.rows)
        plan = compensate(plan, model, seen, rank=config.compensate, progress=progress)
    if config.tune:
        plan = tune(plan, model, batches(config.tune), config.tune, progress=progress)
    if plan.updates:
        plan = replace(plan, achieved=plan.measure(model, as_batches(held_out)))
    return plan, held


def held_out_rows(rows: int) -> int:
    """How many rows are measured on for so many that are calibrated on."""
    return max(1, rows // _HELD_OUT)


def check_rows(rows: int) -> None:
    """Raise ValueError unless there is something to calibrate on."""
    if rows < 1:
        raise ValueError(f"calibration needs at least 1 row, got {rows}")


def _check_out(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: choose another --out")
    if (folder / PLAN).exists() and not force:
        raise FileExistsError(
            f"{folder} holds a plan: choose another --out, or overwrite it by --force"
        )
