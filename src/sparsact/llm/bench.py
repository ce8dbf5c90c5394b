"""`sparsact bench`: from the flags to the report."""

import dataclasses
import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sparsact
from sparsact._common.extras import require
from sparsact._common.progress import Progress
from sparsact.calibration import ThresholdPlan, calibrate
from sparsact.calibration.calibrate import check_sparsity
from sparsact.inference import sparsify
from sparsact.llm.calibrating import check_rows
from sparsact.llm.config import BenchConfig
from sparsact.llm.decode import (
    SETTLING,
    check_cache,
    continued,
    decode_in_turn,
    layers_apart,
)
from sparsact.llm.folder import made
from sparsact.llm.perplexity import window_losses
from sparsact.llm.reporting import Findings, Level, make_report
from sparsact.llm.weights import dense_layers, has_experts, share_of_sites, weight_bytes
from sparsact.report.language.page import save_language
from sparsact.report.language.records import LanguageReport
from sparsact.report.language.still import save_sparsity
from sparsact.text.models import open_model
from sparsact.text.windows import as_batches, choose, read_rows, reference_rows

_MEASURED = 4  # windows for a sparsity: it is the mean over thousands of tokens
_PASSES = 4  # of a calibration over its rows; the one with gradients counts for more


@dataclass(frozen=True)
class Benched:
    """A report that was written."""

    report: LanguageReport
    path: Path


@dataclass(frozen=True)
class _Inputs:
    """What the user gave, read and found to fit together."""

    plan: ThresholdPlan
    reference: nn.Module
    windows: Tensor
    calibration: Tensor | None
    prompt: Tensor
    path: Path


class _Counter:
    """Tells how far it is."""

    def __init__(self, config: BenchConfig, progress: Progress) -> None:
        rounds = (1 + len(config.dense)) * (1 + config.rounds)
        level = _PASSES * config.calibration_rows + config.windows
        self.total = 2 * config.windows + rounds + len(config.curve) * level
        self.done, self.name, self.progress = 0, "", progress

    def now(self, name: str) -> None:
        self.name = name
        self.progress(self.done, self.total, name)

    def step(self) -> None:
        self.done += 1
        self.now(self.name)


class Bench:
    """The measurement of a plan.

    All models are in memory together, to be timed in turn: with the defaults that is 8 bytes for
    every weight of the model.

    Args:
        config: the flags.
        progress: called with how much is done, of how much, and what is being done.

    Raises:
        OSError: there is no such model, plan or text, or the report's directory is there already.
        ValueError: a flag is out of its range, the text is too short, the model is no language
            model, the plan is for another one, or memory is too small.
    """

    def __init__(self, config: BenchConfig, progress: Progress = lambda *_: None) -> None:
        self.config, self._counter = config, _Counter(config, progress)
        _check(config)
        self._counter.now("loading the model")
        self._inputs = _read(config)

    def run(self) -> Benched:
        """Measure everything and write ``report.html``, ``sparsity.png`` and ``results.json``."""
        with made(self._inputs.path):
            report = self._measure()
            self._write(report)
        return Benched(report, self._inputs.path)

    def _measure(self) -> LanguageReport:
        config, given, counter = self.config, self._inputs, self._counter
        plan, reference = given.plan, given.reference
        counter.now("perplexity, dense")
        dense = window_losses(reference, given.windows, counter.step)
        achieved = _achieved(plan, reference, given.windows)
        curve = [self._level(sparsity) for sparsity in config.curve]
        models = self._models()
        counter.now("perplexity, sparse")
        sparse = models[self._sparse_label]
        losses = window_losses(sparse, given.windows, counter.step)
        counter.now("decoding")
        passage = continued(reference, given.prompt, config.tokens)
        times = decode_in_turn(models, passage, config.rounds, counter.step)
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
            apart=layers_apart(sparse, passage),
            share=share_of_sites(reference, plan.sites),
            left=dense_layers(sparse),
            experts=has_experts(reference),
        )
        return make_report(config, plan, self._sparse_label, findings)

    @property
    def _sparse_label(self) -> str:
        return f"sparse {self.config.dtype}"

    def _level(self, sparsity: float) -> Level:
        """Perplexity at another sparsity, simulated."""
        given, counter = self._inputs, self._counter
        assert given.calibration is not None
        counter.now(f"calibrating at {sparsity:.0%}")
        before, passes = counter.done, _PASSES * self.config.calibration_rows

        def progress(done: int, total: int, _: str) -> None:
            counter.done = before + passes * done // total
            counter.now(counter.name)

        plan = calibrate(
            given.reference,
            as_batches(given.calibration),
            sparsity,
            score=given.plan.score,
            allocate=given.plan.allocate,
            include=sorted(given.plan.samples),
            keep_first=given.plan.keep_first,
            progress=progress,
        )
        counter.now(f"perplexity at {sparsity:.0%}")
        with plan.applied(given.reference):
            losses = window_losses(given.reference, given.windows, counter.step)
        achieved = dataclasses.replace(
            plan, achieved=_achieved(plan, given.reference, given.windows)
        )
        return Level(sparsity, achieved.achieved_sparsity, losses)

    def _models(self) -> dict[str, nn.Module]:
        """The sides of the timing, by label."""
        config, given = self.config, self._inputs
        first, *others = config.dense
        models = {f"dense {first}": given.reference}
        self._counter.now("making the sparse model")
        fresh, _ = _load(config, first)
        models[self._sparse_label] = sparsify(fresh, given.plan, config.dtype)
        for dtype in others:
            models[f"dense {dtype}"], _ = _load(config, dtype)
        gc.collect()
        return models

    def _write(self, report: LanguageReport) -> None:
        path = self._inputs.path
        save_language(report, path / "report.html")
        save_sparsity(report, path / "sparsity.png")
        results = {
            "config": dataclasses.asdict(self.config),
            "report": dataclasses.asdict(report),
            "versions": {"sparsact": sparsact.__version__, "torch": torch.__version__},
            "threads": torch.get_num_threads(),
        }
        (path / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def _check(config: BenchConfig) -> None:
    for name, least in (
        ("windows", 1), ("prompt", 1), ("tokens", 3), ("rounds", 1),
    ):  # fmt: skip
        if getattr(config, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(config, name)}")
    times = (config.tokens - SETTLING) * config.rounds
    if times < 2:
        raise ValueError(
            f"{times} time a model is too few: the first {SETTLING} of the --tokens of a round do "
            "not count; give more of them, or more --rounds"
        )
    if not config.dense or len(set(config.dense)) < len(config.dense):
        raise ValueError("--dense needs one dtype or two different ones")
    if config.prompt > config.length:
        raise ValueError(
            f"--prompt {config.prompt} is taken from a window of --length {config.length}: make "
            "it shorter"
        )
    check_rows(config.calibration_rows)
    for sparsity in config.curve:
        check_sparsity(sparsity)
    if bool(config.curve) != bool(config.calibration_text):
        raise ValueError("--curve and --calibration-text belong together")


def _read(config: BenchConfig) -> _Inputs:
    plan = ThresholdPlan.load(config.plan)
    if plan.keep_first >= config.length:
        raise ValueError(
            f"the plan leaves the first {plan.keep_first} tokens dense, and there are "
            f"{config.length} in a window: give a longer --length"
        )
    reference, tokenizer = _load(config, config.dense[0])
    plan.check(reference)
    _check_memory(config, reference)
    if config.text:
        rows = read_rows(reference, tokenizer, config.text, config.length, config.windows)
    else:
        rows = reference_rows(reference, tokenizer, config.length, config.windows)
    windows = choose(rows, config.windows)
    calibration = None
    if config.calibration_text:
        count = config.calibration_rows
        found = read_rows(reference, tokenizer, config.calibration_text, config.length, count)
        calibration = choose(found, count)
    most: Any = getattr(reference.config, "max_position_embeddings", None)
    if isinstance(most, int) and config.prompt + config.tokens > most:
        raise ValueError(
            f"--prompt {config.prompt} and --tokens {config.tokens} are more than the model's "
            f"{most} positions"
        )
    prompt = windows[len(windows) // 2 : len(windows) // 2 + 1, : config.prompt]
    check_cache(reference, prompt)
    return _Inputs(plan, reference, windows, calibration, prompt, _new_folder(config))


def _load(config: BenchConfig, dtype: str) -> tuple[nn.Module, Any]:
    model, tokenizer = open_model(config.model, config.gguf)
    return model.to(getattr(torch, dtype)).requires_grad_(False), tokenizer


def _check_memory(config: BenchConfig, reference: nn.Module) -> None:
    """Raise unless the other models will fit beside the first."""
    weights = sum(parameter.numel() for parameter in reference.parameters())
    width = {"float32": 4, "bfloat16": 2}
    # a sparse model begins as a dense one, and is at most so large in the end
    needed = weights * sum(width[dtype] for dtype in (config.dense[0], *config.dense[1:]))
    free = require("psutil", "llm").virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{needed / 1e9:.1f} GB more are needed to hold the models side by side, and "
            f"{free / 1e9:.1f} GB are free: give --dense bfloat16 alone"
        )


def _new_folder(config: BenchConfig) -> Path:
    name = Path(config.model).name or "model"
    default = Path("runs") / f"bench-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(config.out) if config.out else default
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: choose another --out")
    return folder


def _achieved(plan: ThresholdPlan, model: nn.Module, windows: Tensor) -> dict[str, float]:
    few = choose(windows, min(_MEASURED, len(windows)))
    return plan.measure(model, as_batches(few))
