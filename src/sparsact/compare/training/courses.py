"""What is trained in one go: a setting, or all points of a frontier."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby

from sparsact.compare.problems.problem import Problem
from sparsact.compare.settings.training_plan import Plan, Setting
from sparsact.compare.training.annealing import stretch, train_frontier
from sparsact.compare.training.trained import Trained
from sparsact.compare.training.training import train, weights_of

Course = tuple[Setting, ...]


def courses_of(settings: Iterable[Setting]) -> list[Course]:
    """The settings in their order; the points of a frontier, which follow each other, as one."""
    numbered = enumerate(settings)
    groups = groupby(numbered, lambda pair: pair[1].activation if pair[1].point else pair[0])
    return [tuple(setting for _, setting in group) for _, group in groups]


def with_found(course: Course, found: Setting) -> Course:
    """The course with what a search from its first setting found."""
    if course[0].point is None:
        return (found,)
    return tuple(replace(setting, lr=found.lr) for setting in course)


def epochs_of(course: Course, plan: Plan) -> int:
    """How many epochs a course takes."""
    return plan.config.epochs + (len(course) - 1) * stretch(plan.config.epochs)


def train_course(
    course: Course, seed: int, plan: Plan, problem: Problem, on_epoch: Callable[[], None]
) -> list[Trained]:
    """Train a course; its records and weights."""
    if course[0].point:
        return train_frontier(course, seed, plan, problem, on_epoch)
    record, model = train(course[0], seed, plan, problem, on_epoch)
    return [(record, weights_of(model))]
