"""One comparison, from its arguments to the report."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.comparison_directory import ComparisonDirectory
from sparsact.compare.data import Reading, load, split
from sparsact.compare.density_search import ROUNDS, find_setting, is_searched
from sparsact.compare.report_records import make_report
from sparsact.compare.saved_model import save_model
from sparsact.compare.step_timing import time_steps
from sparsact.compare.training import TrialRecord, train
from sparsact.compare.training_plan import Setting, make_plan
from sparsact.report.comparison.comparison_page import save_comparison
from sparsact.report.comparison.comparison_picture import save_frontier
from sparsact.report.comparison.comparison_records import ComparisonReport


@dataclass(frozen=True)
class Outcome:
    """The result of a comparison; partial if it was interrupted."""

    path: Path
    report: ComparisonReport
    complete: bool


class Comparison:
    """A comparison that can be interrupted between any two steps.

    Args:
        config: the arguments; with ``resume``, those of the interrupted run are used.

    Raises:
        InputError: the arguments, the data or the run directory cannot be used.
    """

    def __init__(self, config: CompareConfig) -> None:
        resumed = None if config.resume is None else _reopen(config, Path(config.resume))
        config = config if resumed is None else resumed.config
        self.plan = make_plan(config)
        dataset = load(config.data, config.target, config.image_size, Reading.of(config))
        task = None if config.task == "auto" else config.task
        self.data = split(dataset, task)
        if resumed is None:
            path = Path(config.out) if config.out else _default_path(self.data.name)
            self.run = ComparisonDirectory.create(path, config, self.data.fingerprint)
        else:
            self.run = resumed
            self.run.check_data(self.data.fingerprint)
        self.data = self.data.to(self.plan.device)

    def execute(self, progress: Progress) -> Outcome:
        """Do the trainings that are missing and write the report.

        A KeyboardInterrupt is not raised: finished trainings are kept, and the run is marked as
        partial.

        Args:
            progress: called with the number of epochs done, the number of all epochs, and what is
                running.
        """
        settings = self.plan.settings
        complete = True
        try:
            if self.run.timing() is None:
                progress(0, 1, "step times, side by side")
                self.run.set_timing(time_steps(settings, self.plan, self.data))
            settings = self._train_all(progress)
        except KeyboardInterrupt:
            complete = False
        records = list(self.run.records.values())
        report = make_report(self.plan, self.data, settings, records, self.run.timing() or {})
        self._write(report, settings)
        self.run.mark("complete" if complete else "partial")
        return Outcome(self.run.path, report, complete)

    def _train_all(self, progress: Progress) -> tuple[Setting, ...]:
        config, settings = self.plan.config, self.plan.settings
        trainings = len(settings) * config.seeds
        if config.target_density is not None:
            trainings += ROUNDS * sum(is_searched(setting) for setting in settings)
        counter = ProgressCounter(trainings * config.epochs, progress)
        if config.target_density is not None:
            target = config.target_density
            settings = tuple(self._search(setting, target, counter) for setting in settings)
        for seed in range(config.seeds):
            for setting in settings:
                self._train(setting, seed, counter)
        return settings

    def _search(self, setting: Setting, target: float, counter: ProgressCounter) -> Setting:
        kind = self.plan.penalty.kind if self.plan.penalty else "l1"
        before = counter.done
        best = find_setting(setting, target, kind, lambda s: self._train(s, 0, counter))
        if is_searched(setting):
            counter.jump(before + ROUNDS * self.plan.config.epochs)
        return best

    def _train(self, setting: Setting, seed: int, counter: ProgressCounter) -> TrialRecord:
        """The training with this setting and seed, from the run directory if it is there."""
        known = self.run.records.get((setting.label, seed))
        if known is not None:
            counter.advance(self.plan.config.epochs)
            return known
        counter.label = f"{setting.label}, seed {seed}"
        record, model = train(setting, seed, self.plan, self.data, counter.advance)
        self.run.add(record, model)
        return record

    def _write(self, report: ComparisonReport, settings: tuple[Setting, ...]) -> None:
        if not report.rows:
            return
        path = self.run.path
        save_comparison(report, path / "report.html")
        save_frontier(report, path / "frontier.png")
        picked = next((row.label for row in report.rows if row.picked), None)
        if picked is None:
            return
        best = max(
            (record for record in self.run.records.values() if record.setting == picked),
            key=lambda record: record.validation_score,
        )
        setting = next(setting for setting in settings if setting.label == picked)
        weights = self.run.weights((picked, best.seed))
        save_model(path / "model.safetensors", weights, setting, self.plan.hidden, self.data)


def _reopen(config: CompareConfig, path: Path) -> ComparisonDirectory:
    if replace(config, resume=None) != CompareConfig():
        raise InputError(
            f"resume= takes all other settings from {path}/config.json; leave out other arguments"
        )
    return ComparisonDirectory.open(path)


def _default_path(name: str) -> Path:
    return Path("runs") / f"compare-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
