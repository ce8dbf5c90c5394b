"""All that is searched for a setting before its trainings: the learning rate, the density."""

from dataclasses import replace

from sparsact.compare.problems.problem import Problem
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.density_search import ROUNDS, find_setting
from sparsact.compare.training.rate_search import RATES, find_rate
from sparsact.compare.training.trained import Key, Trained, key_of
from sparsact.compare.training.trials import WARM_STRETCHES, Trials, warm_epochs


def search(setting: Setting, trials: Trials) -> Setting:
    """Search the learning rate, and then the density, as far as the plan says so."""
    config = trials.plan.config
    if config.lr == "auto":
        rate = find_rate(replace(setting, point=None), trials.run).lr
        setting = replace(setting, lr=rate)
    if config.target_density is not None:
        setting = find_setting(setting, config.target_density, trials)
    return setting


def search_apart(setting: Setting, plan: Plan, problem: Problem) -> tuple[Setting, list[Trained]]:
    """Search in another process; return the trainings too."""
    made: dict[Key, Trained] = {}

    def keep(trained: Trained) -> None:
        made[key_of(trained[0])] = trained

    trials = Trials(plan, problem, made.get, keep, lambda setting: nothing)
    return search(setting, trials), list(made.values())


def epochs_of_search(setting: Setting, plan: Plan) -> int:
    """At most how many epochs :func:`search` needs."""
    epochs = plan.config.epochs
    total = len(RATES) * epochs if plan.config.lr == "auto" else 0
    knob = setting.kind.knob
    if plan.config.target_density is not None and knob is not None:
        total += ROUNDS[knob] * epochs + WARM_STRETCHES * warm_epochs(epochs)
    return total


def nothing() -> None:
    """What a training in another process reports."""
