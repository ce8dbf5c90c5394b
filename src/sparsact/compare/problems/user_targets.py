"""The targets of a user's data: how many, of which kind, and what is measured on them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.compare.problems.user_batches import UserSource
from sparsact.compare.problems.user_code import user_code
from sparsact.compare.results.baselines import class_baseline, value_baseline
from sparsact.compare.results.scores import (
    OF_CLASSES,
    OF_VALUES,
    Score,
    default_class_score,
    named_score,
    own_score,
)
from sparsact.compare.training.default_learning import Kind
from sparsact.report.comparison.comparison_records import Baseline


@dataclass(frozen=True)
class Targets:
    """How many samples a part has, and their targets if these are classes or values."""

    samples: int
    targets: Tensor | None
    classes: int


def targets_of(source: UserSource, kind: Kind | None) -> Targets:
    """Read a part once; a batch of another structure is an error here, before any training."""
    samples, targets = 0, []
    with user_code(source.argument):
        for batch in source.in_order():
            samples += batch.samples
            if kind is not None:
                targets.append(batch.target)
    if kind is None:
        return Targets(samples, None, 0)
    joined = torch.cat(targets)
    classes = int(joined.max()) + 1 if kind == "classify" else 0
    return Targets(samples, joined, classes)


def is_constant(targets: Tensor | None) -> bool:
    """Whether all targets that count are the same; negative labels do not count."""
    if targets is None:
        return False
    counted = targets[targets >= 0]
    return len(counted) == 0 or bool((counted == counted[0]).all())


def score_for(score: Any, kind: Kind | None, targets: Tensor | None) -> Score:
    """The user's score, by name or as a function, or the usual one of the kind of task."""
    allowed = {"classify": OF_CLASSES, "regress": OF_VALUES, None: ()}[kind]
    if isinstance(score, str) and score != "auto":
        return named_score(score, allowed)
    if score is not None and score != "auto":
        if not callable(score):
            raise InputError(f"score= must be a name or a function, got {score!r}")
        return own_score(score)
    if kind == "classify" and targets is not None:
        return named_score(default_class_score(targets), allowed)
    return named_score("r2" if kind == "regress" else "loss", allowed)


def baseline_for(
    score: Score, chosen: Any, kind: Kind | None, parts: list[Targets]
) -> Baseline | None:
    """The constant prediction, for the scores that have a name."""
    if kind is None or callable(chosen):
        return None
    targets = [part.targets for part in parts]
    train, validation, test = (part for part in targets if part is not None)
    if kind == "regress":
        return value_baseline(score, train.float(), validation.float(), test.float())
    return class_baseline(score, train, validation, test, max(part.classes for part in parts))
