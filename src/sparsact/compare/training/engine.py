"""The trainings of a comparison: one engine for every network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsact._common.errors import SparsactError
from sparsact._common.extras import require
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.compare.problems.problem import Problem
from sparsact.compare.results.comparison_directory import ComparisonDirectory, Key
from sparsact.compare.results.report_records import make_report
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.density_search import ROUNDS, find_setting, is_searched
from sparsact.compare.training.rate_search import RATES, find_rate
from sparsact.compare.training.step_timing import time_steps
from sparsact.compare.training.training import TrialRecord, train
from sparsact.report.comparison.comparison_page import save_comparison
from sparsact.report.comparison.comparison_picture import save_frontier
from sparsact.report.comparison.comparison_records import ComparisonReport

Trained = tuple[TrialRecord, dict[str, Tensor]]
"""A record, and the weights."""


@dataclass(frozen=True)
class Best:
    """The training that was chosen."""

    setting: Setting
    record: TrialRecord


@dataclass(frozen=True)
class Outcome:
    """The result of a comparison; partial if it was interrupted."""

    path: Path
    report: ComparisonReport
    complete: bool
    best: Best | None = None


class Engine:
    """Trainings that can be interrupted between any two steps.

    Args:
        plan: which settings to train, and how.
        problem: what is learned.
        run: the directory that keeps the trainings.
        writes_report: whether the page and the picture are written there.
    """

    def __init__(
        self,
        plan: Plan,
        problem: Problem,
        run: ComparisonDirectory,
        *,
        writes_report: bool = True,
    ) -> None:
        self.plan = plan
        self.problem = problem
        self.run = run
        self.writes_report = writes_report

    def execute(
        self,
        progress: Progress,
        save_best: Callable[[Setting, dict[str, Tensor]], None] = lambda setting, weights: None,
    ) -> Outcome:
        """Do the trainings that are missing and write the report.

        A KeyboardInterrupt is not raised: finished trainings are kept, and the run is marked as
        partial.

        Args:
            progress: called with the number of epochs done, the number of all epochs, and what is
                running.
            save_best: called with the chosen setting and the weights of its best training.
        """
        settings = self.plan.settings
        complete = True
        try:
            if self.run.timing() is None:
                progress(0, 1, "step times, side by side")
                self.run.set_timing(time_steps(settings, self.plan, self.problem))
            settings = self._train_all(progress)
        except KeyboardInterrupt:
            complete = False
        records = list(self.run.records.values())
        timing = self.run.timing() or {}
        report = make_report(self.plan, self.problem, settings, records, timing)
        best = self._best(report, settings)
        self._write(report, best, save_best)
        self.run.mark("complete" if complete else "partial")
        return Outcome(self.run.path, report, complete, best)

    def _train_all(self, progress: Progress) -> tuple[Setting, ...]:
        config, settings = self.plan.config, self.plan.settings
        searched = [trainings_of_search(setting, self.plan) for setting in settings]
        trainings = len(settings) * config.seeds + sum(searched)
        counter = ProgressCounter(trainings * config.epochs, progress)
        if any(searched):
            settings = self._search_all(settings, searched, counter)
        missing = []
        for seed in range(config.seeds):
            for setting in settings:
                if (setting.label, seed) in self.run.records:
                    counter.advance(config.epochs)
                else:
                    missing.append((setting, seed))
        jobs = (
            partial(
                _train,
                setting,
                seed,
                self.plan,
                self.problem,
                self._reporter(counter, setting, seed),
            )
            for setting, seed in missing
        )
        for trained in self._do(jobs):
            self.run.add(*trained)
            self._report_job(counter)
        return settings

    def _search_all(
        self, settings: Sequence[Setting], searched: Sequence[int], counter: ProgressCounter
    ) -> tuple[Setting, ...]:
        """Search the settings that need it; their trainings are kept."""
        if self.plan.config.jobs == 1:
            found = []
            for setting, trainings in zip(settings, searched, strict=True):
                before = counter.done
                run = partial(self._train_unless_known, counter)
                found.append(search(setting, self.plan, run))
                counter.jump(before + trainings * self.plan.config.epochs)
            return tuple(found)
        known = dict(self.run.records)
        jobs = (partial(_search_apart, s, self.plan, self.problem, known) for s in settings)
        found = []
        for (setting, made), trainings in zip(self._do(jobs), searched, strict=True):
            for trained in made:
                self.run.add(*trained)
            found.append(setting)
            counter.advance(trainings * self.plan.config.epochs)
        return tuple(found)

    def _train_unless_known(self, counter: ProgressCounter, setting: Setting) -> TrialRecord:
        """The training with this setting from seed 0, from the run directory if it is there."""
        known = self.run.records.get((setting.label, 0))
        if known is not None:
            counter.advance(self.plan.config.epochs)
            return known
        report = self._reporter(counter, setting, 0)
        record, weights = _train(setting, 0, self.plan, self.problem, report)
        self.run.add(record, weights)
        return record

    def _do(self, jobs: Iterator[Callable[[], Any]]) -> Iterator[Any]:
        """Do jobs, at the same time if more than one is allowed; results come in their order."""
        count = self.plan.config.jobs
        if count == 1:
            return (job() for job in jobs)
        joblib = require("joblib", "compare")
        apart = joblib.Parallel(n_jobs=count, return_as="generator")
        return self._results(apart(joblib.delayed(job)() for job in jobs))

    def _results(self, results: Iterator[Any]) -> Iterator[Any]:
        """The results of other processes; one that was killed is an error."""
        try:
            yield from results
        except BrokenExecutor as error:
            raise SparsactError(
                "a training's process was killed, perhaps for memory: take fewer jobs=; "
                f"{self.run.path} keeps the finished trainings, and resume= continues"
            ) from error

    def _reporter(
        self, counter: ProgressCounter, setting: Setting, seed: int
    ) -> Callable[[], None]:
        """What a training calls after each epoch; in another process, nothing."""
        if self.plan.config.jobs > 1:
            return _nothing

        def report() -> None:
            counter.label = f"{setting.label}, seed {seed}"
            counter.advance()

        return report

    def _report_job(self, counter: ProgressCounter) -> None:
        if self.plan.config.jobs > 1:
            counter.label = f"{self.plan.config.jobs} trainings at the same time"
            counter.advance(self.plan.config.epochs)

    def _best(self, report: ComparisonReport, settings: Sequence[Setting]) -> Best | None:
        picked = next((row.label for row in report.rows if row.picked), None)
        if picked is None:
            return None
        record = max(
            (record for record in self.run.records.values() if record.setting == picked),
            key=lambda record: record.validation_score,
        )
        return Best(next(s for s in settings if s.label == picked), record)

    def _write(
        self,
        report: ComparisonReport,
        best: Best | None,
        save_best: Callable[[Setting, dict[str, Tensor]], None],
    ) -> None:
        if not self.writes_report or not report.rows:
            return
        save_comparison(report, self.run.path / "report.html")
        save_frontier(report, self.run.path / "frontier.png")
        if best is not None:
            save_best(best.setting, self.run.weights((best.setting.label, best.record.seed)))


def search(setting: Setting, plan: Plan, run: Callable[[Setting], TrialRecord]) -> Setting:
    """Search the learning rate, and then the density, as far as the plan says so.

    Args:
        setting: where to start.
        plan: says what is searched.
        run: trains a setting from seed 0.
    """
    if plan.config.lr == "auto":
        setting = find_rate(setting, run)
    if plan.config.target_density is not None:
        setting = find_setting(setting, plan.config.target_density, run)
    return setting


def trainings_of_search(setting: Setting, plan: Plan) -> int:
    """At most how many trainings :func:`search` needs."""
    rates = len(RATES) if plan.config.lr == "auto" else 0
    is_wanted = plan.config.target_density is not None and is_searched(setting)
    return rates + (ROUNDS if is_wanted else 0)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state of a model on the CPU; tensors that are shared are copied apart."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _train(
    setting: Setting, seed: int, plan: Plan, problem: Problem, on_epoch: Callable[[], None]
) -> Trained:
    record, model = train(setting, seed, plan, problem, on_epoch)
    return record, weights_of(model)


def _search_apart(
    setting: Setting, plan: Plan, problem: Problem, known: Mapping[Key, TrialRecord]
) -> tuple[Setting, list[Trained]]:
    """Search in another process; return the trainings that are new."""
    records = dict(known)
    made: list[Trained] = []

    def run(candidate: Setting) -> TrialRecord:
        key = candidate.label, 0
        if key not in records:
            made.append(_train(candidate, 0, plan, problem, _nothing))
            records[key] = made[-1][0]
        return records[key]

    return search(setting, plan, run), made


def _nothing() -> None:
    """What a training in another process reports."""
