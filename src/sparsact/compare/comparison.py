"""One comparison of the command line, from its arguments to the report."""

import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.data import Reading, SplitData, load, split
from sparsact.compare.problems.table_problem import network_name, table_problem
from sparsact.compare.problems.task_file import SUFFIX, task_problem
from sparsact.compare.problems.task_model import save_task_model
from sparsact.compare.problems.user_code import training_code
from sparsact.compare.results.comparison_directory import ComparisonDirectory
from sparsact.compare.saved_model import save_model
from sparsact.compare.settings.training_plan import Setting, make_plan
from sparsact.compare.training.engine import Engine, Outcome


class Comparison:
    """A comparison that can be interrupted between any two steps.

    Args:
        config: the arguments; with ``resume``, those of the interrupted run are used, except
            ``jobs`` and ``backend``.

    Raises:
        InputError: the arguments, the data or the run directory cannot be used.
    """

    def __init__(self, config: CompareConfig) -> None:
        resumed = None if config.resume is None else _reopen(config, Path(config.resume))
        if resumed is not None:
            config = replace(resumed.config, jobs=config.jobs, backend=config.backend)
        self.plan = make_plan(config)
        self.data: SplitData | None = None
        if Path(config.data).suffix == SUFFIX:
            self.problem = task_problem(self.plan)
        else:
            self.data = self._read(config)
            self.problem = table_problem(self.plan, self.data)
        if resumed is None:
            path = Path(config.out) if config.out else default_path(self.problem.name)
            self.run = ComparisonDirectory.create(path, config, self.problem.fingerprint)
        else:
            self.run = resumed
            self.run.check_data(self.problem.fingerprint)

    def _read(self, config: CompareConfig) -> SplitData:
        dataset = load(config.data, config.target, config.image_size, Reading.of(config))
        return split(dataset, None if config.task == "auto" else config.task).to(self.plan.device)

    def execute(self, progress: Progress) -> Outcome:
        """Do the trainings that are missing and write the report.

        A KeyboardInterrupt is not raised: finished trainings are kept, and the run is marked as
        partial.

        Args:
            progress: called with the number of epochs done, the number of all epochs, and what is
                running.

        Raises:
            InputError: code of a task file raised.
        """
        engine = Engine(self.plan, self.problem, self.run)
        with training_code(self.plan.config.data):
            return engine.execute(progress, self._save_best)

    def _save_best(self, setting: Setting, weights: dict[str, Tensor]) -> None:
        if self.data is None:
            save_task_model(self.run.path, setting, weights)
        else:
            path = self.run.path / "model.safetensors"
            network = network_name(self.plan.config, self.data)
            save_model(path, weights, setting, network, self.plan.hidden, self.data)


def _reopen(config: CompareConfig, path: Path) -> ComparisonDirectory:
    if replace(config, resume=None) != CompareConfig(jobs=config.jobs, backend=config.backend):
        raise InputError(
            f"resume= takes all settings but jobs= and backend= from {path}/config.json; leave out "
            "other arguments"
        )
    return ComparisonDirectory.open(path)


def default_path(name: str) -> Path:
    """Where a run goes if the user names no directory."""
    return Path("runs") / f"compare-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
