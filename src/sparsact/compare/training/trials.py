"""The trainings of a search: each is done once, from seed 0."""

from collections.abc import Callable

import torch

from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.user_code import enough_memory
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.first_strength import first_strength
from sparsact.compare.training.measuring import evaluate
from sparsact.compare.training.tally import Diverged
from sparsact.compare.training.trained import Key, Trained
from sparsact.compare.training.training import Training, TrialRecord, train, weights_of

WARM_STRETCHES = 6
"""A first training is continued at most so many times."""
SHARE_OF_EPOCHS = 5


def is_warm_cheaper(epochs: int) -> bool:
    """Whether a training can be continued for less than a new one takes."""
    return epochs >= SHARE_OF_EPOCHS


def warm_epochs(epochs: int) -> int:
    """The epochs by which a training is continued each time; 0 if that is not cheaper."""
    return epochs // SHARE_OF_EPOCHS


class Trials:
    """Trains settings from seed 0 and keeps what was trained.

    Args:
        plan: how to train.
        problem: what is learned.
        recall: the training of a key, if it was done.
        keep: is given every new training.
        on_epoch: makes what a training of a setting calls after each epoch.
    """

    def __init__(
        self,
        plan: Plan,
        problem: Problem,
        recall: Callable[[Key], Trained | None],
        keep: Callable[[Trained], None],
        on_epoch: Callable[[Setting], Callable[[], None]],
    ) -> None:
        self.plan, self.problem = plan, problem
        self._recall, self._keep, self._on_epoch = recall, keep, on_epoch

    @property
    def epochs(self) -> int:
        """Of a training."""
        return self.plan.config.epochs

    def run(self, setting: Setting) -> TrialRecord:
        """The training of a setting."""
        return self._trained(setting)[0]

    def _trained(self, setting: Setting) -> Trained:
        known = self._recall((setting.label, 0))
        if known is not None:
            for _ in range(self.epochs):
                self._on_epoch(setting)()
            return known
        record, model = train(setting, 0, self.plan, self.problem, self._on_epoch(setting))
        trained = record, weights_of(model)
        self._keep(trained)
        return trained

    def first_strength(self, setting: Setting) -> float:
        """A coefficient of the penalty to begin with."""
        return first_strength(setting, self.plan, self.problem)

    def warm_path(self, setting: Setting) -> Callable[[Setting], float]:
        """Continue the training of a setting with others.

        Returns:
            a function of a setting that trains for a few epochs more, and gives the density on the
            validation part; 0 if the training diverges.
        """
        problem, order = self.problem, torch.Generator().manual_seed(0)
        weights = self._trained(setting)[1]

        def density(candidate: Setting) -> float:
            nonlocal weights
            report = self._on_epoch(candidate)
            with torch.random.fork_rng(), enough_memory():
                torch.manual_seed(0)
                training = Training(candidate, 0, self.plan, problem, weights)
                try:
                    for _ in range(warm_epochs(self.epochs)):
                        training.run_epoch(order)
                        report()
                    stats = evaluate(problem, training.model, training.places, problem.validation)[
                        1
                    ]
                except Diverged:
                    return 0.0
                weights = weights_of(training.model)
            units = sum(layer.units for layer in stats)
            return sum(layer.density * layer.units for layer in stats) / units

        return density
