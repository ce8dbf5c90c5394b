"""Measuring a plan: from the settings to the report."""

import dataclasses
import gc
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsact._common.progress import Progress, ProgressCounter
from sparsact._common.run_directory import output_directory, versions
from sparsact.calibration import ThresholdPlan, calibrate
from sparsact.evaluation.bench_config import BenchConfig
from sparsact.evaluation.bench_inputs import load_dense, load_sparse, new_folder, read_inputs
from sparsact.evaluation.bench_report import Findings, Level, make_report
from sparsact.evaluation.decoding_time import decode_in_turn, greedy_passage, layers_apart
from sparsact.evaluation.exported_model import with_exported_model
from sparsact.evaluation.perplexity import window_losses
from sparsact.evaluation.task_scores import Scores, task_lines, task_scores
from sparsact.evaluation.weight_bytes import (
    dense_layers,
    has_experts,
    share_of_sites,
    weight_bytes,
)
from sparsact.report.language.language_page import save_language
from sparsact.report.language.language_picture import save_sparsity
from sparsact.report.language.language_records import LanguageReport
from sparsact.text.windows import as_batches, choose

_MEASURED_WINDOWS = 4  # for a sparsity: it is the mean over thousands of tokens
_PASSES = 4  # of a calibration over its rows; the pass with gradients takes longest


@dataclass(frozen=True)
class BenchResult:
    """A report and the directory that it was written to."""

    report: LanguageReport
    path: Path


class Bench:
    """The measurement of a plan.

    All models are in memory at once, because they are timed in turn: with the defaults, 8 bytes
    for every weight of the model.

    Args:
        config: the settings.
        progress: called with the steps done, the number of steps, and what is being done.

    Raises:
        MissingInputError: there is no such model, plan or text.
        InputError: a setting is out of range, the directory of the report exists, the text is too
            short, the model is not a language model, the plan is for another model, or memory is
            too small.
    """

    def __init__(self, config: BenchConfig, progress: Progress | None = None) -> None:
        config.check()
        self.config = config = with_exported_model(config)
        self._path = new_folder(config)
        self._counter = ProgressCounter(_number_of_steps(config), progress)
        self._begin("loading the model")
        self._inputs = read_inputs(config)

    def run(self) -> BenchResult:
        """Measure everything and write ``report.html``, ``sparsity.png`` and ``results.json``."""
        with output_directory(self._path):
            report = self._measure()
            self._write(report)
        return BenchResult(report, self._path)

    @property
    def sparse_label(self) -> str:
        """The name of the sparse model in tables."""
        return f"sparse {self.config.dtype}"

    def _begin(self, label: str) -> None:
        self._counter.label = label
        self._counter.advance(0)

    def _losses(self, model: nn.Module) -> Tensor:
        return window_losses(model, self._inputs.windows, self._counter.advance)

    def _measure(self) -> LanguageReport:
        plan, reference = self._inputs.plan, self._inputs.reference
        task_scores_dense = self._task_scores(reference)
        self._begin("perplexity, dense")
        dense = self._losses(reference)
        achieved = self._achieved(plan)
        curve = [self._level(sparsity) for sparsity in self.config.curve]
        models = self._models()
        self._begin("perplexity, sparse")
        sparse = models[self.sparse_label]
        losses = self._losses(sparse)
        self._begin("decoding")
        passage = greedy_passage(reference, self._inputs.prompt, self.config.tokens)
        times = decode_in_turn(models, passage, self.config.rounds, self._counter.advance)
        skipped = {reader: achieved[site.name] for site in plan.sites for reader in site.readers}
        findings = Findings(
            dense=dense,
            sparse=losses,
            curve=curve,
            achieved=achieved,
            times=times,
            weight_bytes={
                name: weight_bytes(model, skipped if model is sparse else None)
                for name, model in models.items()
            },
            layer_error=layers_apart(sparse, passage),
            share_of_sites=share_of_sites(reference, plan.sites),
            dense_layers=dense_layers(sparse),
            has_experts=has_experts(reference),
            tasks=task_lines(task_scores_dense, self._task_scores(sparse)),
        )
        return make_report(self.config, plan, self.sparse_label, findings)

    def _task_scores(self, model: nn.Module) -> Scores:
        config = self.config
        if not config.tasks:
            return {}
        self._begin("tasks")
        return task_scores(model, self._inputs.tokenizer, config.tasks, config.task_limit)

    def _achieved(self, plan: ThresholdPlan) -> dict[str, float]:
        """The plan's sparsity at each site, on some of the windows."""
        windows = self._inputs.windows
        some = choose(windows, min(_MEASURED_WINDOWS, len(windows)))
        return plan.measure(self._inputs.reference, as_batches(some))

    def _level(self, sparsity: float) -> Level:
        """Perplexity at another sparsity, simulated."""
        inputs, counter = self._inputs, self._counter
        assert inputs.calibration is not None
        self._begin(f"calibrating at {sparsity:.0%}")
        before, passes = counter.done, _PASSES * self.config.calibration_rows
        plan = calibrate(
            inputs.reference,
            as_batches(inputs.calibration),
            sparsity,
            score=inputs.plan.score,
            allocate=inputs.plan.allocate,
            include=sorted(inputs.plan.samples),
            keep_first=inputs.plan.keep_first,
            progress=lambda done, total, _: counter.jump(before + passes * done // total),
        )
        self._begin(f"perplexity at {sparsity:.0%}")
        with plan.applied(inputs.reference):
            losses = self._losses(inputs.reference)
        measured = dataclasses.replace(plan, achieved=self._achieved(plan))
        return Level(sparsity, measured.achieved_sparsity, losses)

    def _models(self) -> dict[str, nn.Module]:
        """The models that are timed, by label."""
        first, *others = self.config.dense
        models = {f"dense {first}": self._inputs.reference}
        self._begin("making the sparse model")
        models[self.sparse_label] = load_sparse(self.config, self._inputs.plan)
        for dtype in others:
            models[f"dense {dtype}"], _ = load_dense(self.config, dtype)
        gc.collect()
        return models

    def _write(self, report: LanguageReport) -> None:
        save_language(report, self._path / "report.html")
        save_sparsity(report, self._path / "sparsity.png")
        results = {
            "config": dataclasses.asdict(self.config),
            "report": dataclasses.asdict(report),
            "versions": versions(),
            "threads": torch.get_num_threads(),
        }
        (self._path / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def _number_of_steps(config: BenchConfig) -> int:
    rounds = (1 + len(config.dense)) * (1 + config.rounds)
    level = _PASSES * config.calibration_rows + config.windows
    return 2 * config.windows + rounds + len(config.curve) * level
