"""The directory of a comparison: a run directory with a line for each finished training."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sparsact._common.atomic import write_tensors, writing
from sparsact._common.errors import InputError
from sparsact._common.run_directory import STATE_FILE, RunDirectory
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.settings.compared_penalties import Strength
from sparsact.compare.settings.training_plan import Setting
from sparsact.compare.training.forward_timing import ForwardTimes
from sparsact.compare.training.trained import Key, Trained
from sparsact.compare.training.trial_record import LayerRecord, TrialRecord


class ComparisonDirectory:
    """The files of a comparison; an interruption loses no finished training.

    Attributes:
        path: the directory.
        config: the arguments of the run.
        records: (label, seed) → the training, in the order in which they ended.
    """

    def __init__(self, run: RunDirectory, config: CompareConfig) -> None:
        self.path = run.path
        self.config = config
        self.records: dict[Key, TrialRecord] = {}
        self._run = run

    @classmethod
    def create(cls, path: Path, config: CompareConfig, fingerprint: str) -> "ComparisonDirectory":
        """Start a run in a new or empty directory.

        Raises:
            InputError: the directory is in use, or the path is a file.
            OutputError: the directory cannot be written.
        """
        state = {
            "config": dataclasses.asdict(config),
            "data_fingerprint": fingerprint,
            "threads": torch.get_num_threads(),
            "status": "running",
        }
        directory = cls(RunDirectory.create(path, state), config)
        weights = path / "weights"
        with writing(weights):
            weights.mkdir()
        return directory

    @classmethod
    def open(cls, path: Path) -> "ComparisonDirectory":
        """An existing run, with every training that was completely recorded.

        If the last line was cut off while it was written, it is removed, and that training is
        done again.

        Raises:
            InputError: it is not the directory of a comparison, or it is damaged.
        """
        run = RunDirectory.open(path)
        try:
            config = CompareConfig(**run.state["config"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path / STATE_FILE} is damaged or of another version: {error}"
            ) from error
        directory = cls(run, config)
        directory._read_results()
        return directory

    def check_data(self, fingerprint: str) -> None:
        """Raise InputError if the data have changed since the run began."""
        if self._run.state.get("data_fingerprint") != fingerprint:
            raise InputError(
                f"the data {self.config.data} changed since {self.path} began; start a new run"
            )

    def add(self, record: TrialRecord, weights: Mapping[str, Tensor]) -> None:
        """Append a finished training: first its weights, then its line, flushed to disk."""
        key = record.setting, record.seed
        write_tensors(self._weights_path(key), weights)
        line = json.dumps(dataclasses.asdict(record), allow_nan=False, ensure_ascii=False)
        results = self.path / "results.jsonl"
        with writing(results), results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[key] = record

    def weights(self, key: Key) -> dict[str, Tensor]:
        """The weights of a finished training.

        Raises:
            InputError: the file is damaged.
        """
        path = self._weights_path(key)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(
                f"{path} is damaged: {error}. Delete it; resume= then trains it again"
            ) from error

    def trained(self, key: Key) -> Trained | None:
        """A finished training; None if there is none."""
        record = self.records.get(key)
        return None if record is None else (record, self.weights(key))

    def found(self, setting: Setting) -> Setting | None:
        """What an earlier search from this setting found."""
        known = self._run.state.get("found", {}).get(setting.label)
        if known is None:
            return None
        penalty = known["penalty"]
        if penalty is not None:
            penalty = replace(setting.penalty or Strength("l1", penalty), value=penalty)
        return replace(setting, level=known["level"], lr=known["lr"], penalty=penalty)

    def set_found(self, setting: Setting, result: Setting) -> None:
        """Save what a search found."""
        self._run.state.setdefault("found", {})[setting.label] = {
            "level": result.level,
            "lr": result.lr,
            "penalty": None if result.penalty is None else result.penalty.value,
        }
        self._run.save()

    def timing(self) -> dict[str, float] | None:
        """Step times measured earlier in this run; None if they were not."""
        ratios: dict[str, float] | None = self._run.state.get("step_time_ratios")
        return ratios

    def set_timing(self, ratios: dict[str, float]) -> None:
        """Save the step times."""
        self._run.state["step_time_ratios"] = ratios
        self._run.save()

    def forward_times(self) -> dict[str, ForwardTimes]:
        """The times of a forward that were measured, by the label of the setting."""
        times = self._run.state.get("forward_ms", {})
        return {label: ForwardTimes(**values) for label, values in times.items()}

    def set_forward_times(self, label: str, times: ForwardTimes) -> None:
        """Save the times of a forward."""
        self._run.state.setdefault("forward_ms", {})[label] = dataclasses.asdict(times)
        self._run.save()

    def mark(self, status: str) -> None:
        """Save the status: ``running``, ``partial`` or ``complete``."""
        self._run.state["status"] = status
        self._run.save()

    def _weights_path(self, key: Key) -> Path:
        label, seed = key
        name = "".join(c if c.isalnum() or c in "._=-" else "-" for c in label)
        return self.path / "weights" / f"{name}-seed{seed}.safetensors"

    def _read_results(self) -> None:
        file = self.path / "results.jsonl"
        if not file.exists():
            return
        complete_bytes = 0
        content = file.read_bytes()
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                record = _parse_record(line)
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise InputError(f"{file}: line {number} is damaged: {error}") from error
                break
            if not line.endswith(b"\n"):
                break
            complete_bytes += len(line)
            if self._weights_path((record.setting, record.seed)).is_file():
                self.records[record.setting, record.seed] = record
        if complete_bytes < len(content):
            os.truncate(file, complete_bytes)


def _parse_record(line: bytes) -> TrialRecord:
    fields = json.loads(line.decode("utf-8"))
    layers = tuple(
        LayerRecord(**{**layer, "counts": tuple(layer["counts"])}) for layer in fields["layers"]
    )
    return TrialRecord(
        **{
            **fields,
            "layers": layers,
            "validation_scores": tuple(fields["validation_scores"]),
            "densities": tuple(tuple(row) for row in fields["densities"]),
            "lambdas": tuple(tuple(row) for row in fields.get("lambdas", ())),
        }
    )
