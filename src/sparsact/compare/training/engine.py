"""The trainings of a comparison: one engine for every network."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsact._common.atomic import write_text
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.compare.problems.problem import Problem
from sparsact.compare.results.comparison_directory import ComparisonDirectory
from sparsact.compare.results.report_records import make_report
from sparsact.compare.results.result_table import result_table
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.courses import (
    Course,
    courses_of,
    epochs_of,
    train_course,
    with_found,
)
from sparsact.compare.training.forward_timing import time_forwards
from sparsact.compare.training.knobs import at_end
from sparsact.compare.training.searches import epochs_of_search, nothing, search, search_apart
from sparsact.compare.training.step_timing import time_steps
from sparsact.compare.training.trained import Trained, key_of
from sparsact.compare.training.training import TrialRecord
from sparsact.compare.training.trials import Trials
from sparsact.compare.training.workers import in_processes
from sparsact.report.comparison.comparison_page import save_comparison
from sparsact.report.comparison.comparison_picture import save_frontier
from sparsact.report.comparison.comparison_records import ComparisonReport


@dataclass(frozen=True)
class Best:
    """The training that was chosen, and its setting with the λ, k or penalty at its end."""

    setting: Setting
    record: TrialRecord


@dataclass(frozen=True)
class Outcome:
    """The result of a comparison; partial if it was interrupted."""

    path: Path
    report: ComparisonReport
    complete: bool
    best: Best | None = None


def trained_network(
    problem: Problem, run: ComparisonDirectory, setting: Setting, record: TrialRecord
) -> nn.Module:
    """The network of a training, with its weights, in eval mode."""
    setting = at_end(setting, record)
    model, _ = problem.network(setting.kind, setting.level, record.seed)
    model.load_state_dict(run.weights(key_of(record)))
    return model.to(problem.device).eval()


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
            self._time_forwards(settings)
        except KeyboardInterrupt:
            complete = False
        records = list(self.run.records.values())
        timing = self.run.timing() or {}
        forwards = self.run.forward_times()
        report = make_report(self.plan, self.problem, settings, records, timing, forwards)
        best = self._best(report, settings)
        self._write(report, best, save_best)
        self.run.mark("complete" if complete else "partial")
        return Outcome(self.run.path, report, complete, best)

    def _train_all(self, progress: Progress) -> tuple[Setting, ...]:
        config = self.plan.config
        courses = courses_of(self.plan.settings)
        searched = [epochs_of_search(course[0], self.plan) for course in courses]
        epochs = sum(epochs_of(course, self.plan) for course in courses) * config.seeds
        counter = ProgressCounter(epochs + sum(searched), progress)
        if any(searched):
            courses = self._search_all(courses, searched, counter)
        missing = []
        for seed in range(config.seeds):
            for course in courses:
                if all((setting.label, seed) in self.run.records for setting in course):
                    counter.advance(epochs_of(course, self.plan))
                else:
                    missing.append((course, seed))
        jobs = (self._job(course, seed, counter) for course, seed in missing)
        with closing(self._do(jobs)) as results:
            for place, made in results:
                self._keep(made)
                self._report_job(counter, epochs_of(missing[place][0], self.plan))
        return tuple(setting for course in courses for setting in course)

    def _job(
        self, course: Course, seed: int, counter: ProgressCounter
    ) -> Callable[[], list[Trained]]:
        report = self._reporter(counter, f"{course[0].label}, seed {seed}")
        return partial(train_course, course, seed, self.plan, self.problem, report)

    def _keep(self, made: Iterable[Trained]) -> None:
        """Keep trainings; those that an interrupted run has kept already are the same."""
        for record, weights in made:
            if key_of(record) not in self.run.records:
                self.run.add(record, weights)

    def _search_all(
        self, courses: Sequence[Course], searched: Sequence[int], counter: ProgressCounter
    ) -> list[Course]:
        """Search what needs it; the trainings and the results are kept."""
        found: dict[Course, Setting] = {}
        missing = []
        for course, epochs in zip(courses, searched, strict=True):
            known = course[0] if epochs == 0 else self.run.found(course[0])
            if known is None:
                missing.append((course, epochs))
            else:
                found[course] = known
                counter.advance(epochs)
        done = counter.done
        jobs = (self._search(course[0], counter) for course, _ in missing)
        with closing(self._do(jobs)) as results:
            for place, (result, made) in results:
                course, epochs = missing[place]
                self._keep(made)
                self.run.set_found(course[0], result)
                found[course] = result
                done += epochs
                counter.jump(done)
        return [with_found(course, found[course]) for course in courses]

    def _search(
        self, setting: Setting, counter: ProgressCounter
    ) -> Callable[[], tuple[Setting, list[Trained]]]:
        """A search; in this process, each of its trainings is kept when it ends."""
        if self.plan.config.jobs > 1:
            return partial(search_apart, setting, self.plan, self.problem)

        def on_epoch(candidate: Setting) -> Callable[[], None]:
            return self._reporter(counter, f"{candidate.label}, seed 0")

        def keep(trained: Trained) -> None:
            self.run.add(*trained)

        trials = Trials(self.plan, self.problem, self.run.trained, keep, on_epoch)
        return lambda: (search(setting, trials), [])

    def _do(self, jobs: Iterator[Callable[[], Any]]) -> Generator[tuple[int, Any], None, None]:
        """Do jobs, some at the same time if that is allowed; their places and results."""
        config = self.plan.config
        if config.jobs == 1:
            yield from ((place, job()) for place, job in enumerate(jobs))
            return
        yield from in_processes(jobs, config.jobs, config.backend, self.run.path)

    def _time_forwards(self, settings: Iterable[Setting]) -> None:
        """Measure one trained network of each setting, if that was not done."""
        known = self.run.forward_times()
        for setting in settings:
            record = next(
                (
                    r
                    for seed in range(self.plan.config.seeds)
                    if (r := self.run.records[setting.label, seed]).status == "finished"
                ),
                None,
            )
            if record is not None and setting.label not in known:
                model = trained_network(self.problem, self.run, setting, record)
                self.run.set_forward_times(setting.label, time_forwards(self.problem, model))

    def _reporter(self, counter: ProgressCounter, label: str) -> Callable[[], None]:
        """What a training calls after each epoch; in another process, nothing."""
        if self.plan.config.jobs > 1:
            return nothing

        def report() -> None:
            counter.label = label
            counter.advance()

        return report

    def _report_job(self, counter: ProgressCounter, epochs: int) -> None:
        if self.plan.config.jobs > 1:
            counter.label = f"{self.plan.config.jobs} trainings at the same time"
            counter.advance(epochs)

    def _best(self, report: ComparisonReport, settings: Sequence[Setting]) -> Best | None:
        picked = next((row.label for row in report.rows if row.picked), None)
        if picked is None:
            return None
        record = max(
            (record for record in self.run.records.values() if record.setting == picked),
            key=lambda record: record.validation_score,
        )
        return Best(at_end(next(s for s in settings if s.label == picked), record), record)

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
        write_text(self.run.path / "table.csv", result_table(report).to_csv())
        if best is not None:
            save_best(best.setting, self.run.weights(key_of(best.record)))
