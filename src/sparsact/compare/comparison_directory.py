"""The directory of a run: its configuration, and a line per finished training."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import sparsact
from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact._common.errors import InputError
from sparsact.compare.config import CompareConfig
from sparsact.compare.trial import LayerRecord, TrialRecord

Key = tuple[str, int]


class RunDirectory:
    """What a comparison leaves on disk, written so that an interruption loses nothing finished.

    Attributes:
        path: the directory.
        config: the flags of the run.
        records: (label, seed) → the training, in the order in which they ended.
    """

    def __init__(self, path: Path, config: CompareConfig, state: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.records: dict[Key, TrialRecord] = {}
        self._state = state

    @classmethod
    def create(cls, path: Path, config: CompareConfig, fingerprint: str) -> "RunDirectory":
        """A new directory.

        Raises:
            InputError: it exists, or cannot be made.
        """
        try:
            path.mkdir(parents=True)
            (path / "weights").mkdir()
        except FileExistsError:
            raise InputError(
                f"{path} exists already: choose another --out, or finish it with --resume {path}"
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be made: {error.strerror}") from error
        state = {
            "config": dataclasses.asdict(config),
            "data_fingerprint": fingerprint,
            "versions": {"sparsact": sparsact.__version__, "torch": torch.__version__},
            "threads": torch.get_num_threads(),
        }
        run = cls(path, config, state)
        run.mark("running")
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing directory, with every training in it that is whole.

        A last line that was cut off in writing is removed, and that training done again.

        Raises:
            InputError: it is not the directory of a comparison, or is damaged.
        """
        file = path / "config.json"
        if not file.is_file():
            raise InputError(f"{path} is not a run: it has no config.json")
        try:
            state = json.loads(file.read_text())
            config = CompareConfig(**state["config"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged or of another version: {error}") from error
        run = cls(path, config, state)
        run._read_results()
        return run

    def check_data(self, fingerprint: str) -> None:
        """Raise InputError unless the data are those that the run began with."""
        if self._state.get("data_fingerprint") != fingerprint:
            raise InputError(
                f"the data {self.config.data} changed since {self.path} began; start a new run"
            )

    def add(self, record: TrialRecord, model: nn.Module) -> None:
        """Append a finished training: weights first, then its line, flushed to disk."""
        key = record.setting, record.seed
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        write_tensors(self._weights_path(key), weights)
        line = json.dumps(dataclasses.asdict(record), allow_nan=False, ensure_ascii=False)
        results = self.path / "results.jsonl"
        with writing(results), results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[key] = record

    def weights(self, key: Key) -> dict[str, Tensor]:
        """The weights of a finished training."""
        return load_file(self._weights_path(key))

    def timing(self) -> dict[str, float] | None:
        """Step times measured earlier in this run, if they were."""
        found: dict[str, float] | None = self._state.get("step_time_ratios")
        return found

    def set_timing(self, ratios: dict[str, float]) -> None:
        """Keep the step times."""
        self._state["step_time_ratios"] = ratios
        self.mark(self._state["status"])

    def mark(self, status: str) -> None:
        """Record ``running``, ``partial`` or ``complete``; the file is never half-written."""
        self._state["status"] = status
        write_text(self.path / "config.json", json.dumps(self._state, indent=2) + "\n")

    def _weights_path(self, key: Key) -> Path:
        label, seed = key
        name = "".join(c if c.isalnum() or c in "._=-" else "-" for c in label)
        return self.path / "weights" / f"{name}-seed{seed}.safetensors"

    def _read_results(self) -> None:
        file = self.path / "results.jsonl"
        if not file.exists():
            return
        whole = 0
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
            whole += len(line)
            if self._weights_path((record.setting, record.seed)).is_file():
                self.records[record.setting, record.seed] = record
        if whole < len(content):
            os.truncate(file, whole)


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
        }
    )
