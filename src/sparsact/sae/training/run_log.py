"""The log of a training run: a line per step, also sent to trackers."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from sparsact._common.atomic import writing
from sparsact._common.extras import require
from sparsact.sae.training.step_stats import SAEStats

if TYPE_CHECKING:
    from accelerate import Accelerator

Tracker = Literal["tensorboard", "wandb"]


class RunLog:
    """The log of a run. The first process writes it; calls in the others do nothing.

    Args:
        file: gets a line of JSON per step.
        accelerator: made with ``log_with`` for the trackers.
        steps: number of steps already done. Later lines and points come from an interrupted
            training and are replaced.
        run: name and id of the run, for trackers that keep several runs.
        settings: of the run. Trackers show those that are numbers or strings.

    Raises:
        OutputError: the disk is full.
    """

    def __init__(
        self,
        file: Path,
        accelerator: "Accelerator",
        steps: int,
        run: Mapping[str, str],
        settings: Mapping[str, Any],
    ) -> None:
        self.file = file
        self.accelerator: Any = accelerator
        if not accelerator.is_main_process:
            return
        with writing(file):
            _truncate(file, steps)
            self._lines = file.open("a", encoding="utf-8")
        if accelerator.log_with:
            self.accelerator.init_trackers(
                "sparsact",
                None if steps else {name: x for name, x in settings.items() if _is_plain(x)},
                {
                    "tensorboard": {"purge_step": steps + 1},
                    "wandb": {**run, "resume": "allow", "dir": str(file.parent)},
                },
            )

    def add(self, stats: SAEStats) -> None:
        """Log a step."""
        if not self.accelerator.is_main_process:
            return
        values = dataclasses.asdict(stats)
        with writing(self.file):
            self._lines.write(json_line(values))
        step = values.pop("step")
        self.accelerator.log({f"train/{name}": value for name, value in values.items()}, step)

    def flush(self) -> None:
        """Write all lines to the file."""
        if self.accelerator.is_main_process:
            with writing(self.file):
                self._lines.flush()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.accelerator.is_main_process:
            for tracker in self.accelerator.trackers:
                tracker.finish()
            with writing(self.file):
                self._lines.close()


def json_line(values: Mapping[str, Any]) -> str:
    """A line of JSON. NaN and infinity, which JSON does not have, become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def check_trackers(names: Sequence[Tracker]) -> None:
    """Raise ImportError for a missing tracker, because accelerate would skip it silently."""
    for name in names:
        require(name, name)


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _truncate(file: Path, lines: int) -> None:
    """Keep the first `lines` lines, in place, because the disk may not have room for a copy."""
    if file.exists():
        with file.open("rb+") as opened:
            for _ in range(lines):
                opened.readline()
            opened.truncate(opened.tell())
