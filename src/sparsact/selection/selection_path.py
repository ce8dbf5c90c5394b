"""Accuracy and stability of a selection against the number of features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.selection.feature_selector import FeatureSelector
from sparsact.selection.problem import classifies


@dataclass(frozen=True)
class SelectionPath:
    """What :func:`selection_path` measured.

    Attributes:
        counts: (n,) the numbers of features.
        scores: (n, resamples), accuracy or R² on the part that was left out.
        frequency: (n, features), the share of resamples that kept each feature.
        stability: (n,), 1 if all resamples kept the same features, 0 if they chose at random; NaN
            where all features are kept.
        feature_names: the names of the features.
        score_name: ``"accuracy"`` or ``"R²"``.
    """

    counts: Any
    scores: Any
    frequency: Any
    stability: Any
    feature_names: list[str]
    score_name: str


def selection_path(
    selector: FeatureSelector,
    x: Any,
    y: Any,
    counts: Sequence[int] | None = None,
    *,
    resamples: int = 10,
    test_share: float = 0.3,
    random_state: Any = 0,
) -> SelectionPath:
    """Measure accuracy and stability of a selection for several numbers of features.

    Each resample splits the data at random, selects on one part, fits a linear or logistic model
    to the selected features there, and scores it on the other part. Of one ranking all numbers of
    features are read; ``"stg"`` is fitted anew for each number.

    Args:
        selector: not changed; its `n_features` is not used.
        x: (samples, features), an array or a data frame.
        y: the target.
        counts: numbers of features, from 1 to all; by default 1, 2, 4, 8, … and all.
        resamples: the number of splits, ≥ 2.
        test_share: the share that is left out, in (0, 1).
        random_state: the seed of the splits.

    Raises:
        ValueError: a count or `resamples` is too small or too large.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> found = selection_path(FeatureSelector("lasso"), x, y, [1, 2], resamples=4)
        >>> found.scores.shape, found.frequency.shape
        ((2, 4), (2, 4))
        >>> float(found.frequency[1, 2:].mean())  # the petals
        1.0

    Source:
        Nogueira, Sechidis & Brown, "On the stability of feature selection algorithms" (2018),
        definition 4.
    """
    names = [str(name) for name in getattr(x, "columns", range(np.shape(x)[1]))]
    values, target = np.asarray(x), np.asarray(y)
    numbers = np.array(_default_counts(len(names)) if counts is None else list(counts))
    if numbers.size == 0 or not ((numbers >= 1) & (numbers <= len(names))).all():
        raise InputError(f"counts= must lie from 1 to {len(names)}, got {numbers.tolist()}")
    if resamples < 2:
        raise InputError(f"resamples= must be at least 2, got {resamples}")
    split = require("sklearn.model_selection", "compare").ShuffleSplit
    if classes := classifies(target, selector.task):
        split = require("sklearn.model_selection", "compare").StratifiedShuffleSplit
    parts = split(resamples, test_size=test_share, random_state=random_state)
    scores = np.empty((len(numbers), resamples))
    kept = np.empty((len(numbers), resamples, len(names)), dtype=bool)
    for column, (train, test) in enumerate(parts.split(values, target)):
        for row, mask in enumerate(_masks(selector, values[train], target[train], numbers)):
            kept[row, column] = mask
            model = _model(classes).fit(values[train][:, mask], target[train])
            scores[row, column] = model.score(values[test][:, mask], target[test])
    name = "accuracy" if classes else "R²"
    return SelectionPath(numbers, scores, kept.mean(1), stability(kept), names, name)


def stability(kept: Any) -> Any:
    """Nogueira's index of selections, (…, resamples, features) boolean: (…)."""
    resamples = kept.shape[-2]
    frequency = kept.mean(-2)
    spread = resamples / (resamples - 1) * (frequency * (1 - frequency)).mean(-1)
    share = kept.mean((-2, -1))
    by_chance = share * (1 - share)
    return 1 - np.divide(spread, by_chance, out=np.full_like(spread, np.nan), where=by_chance > 0)


def _masks(selector: FeatureSelector, x: Any, y: Any, counts: Any) -> list[Any]:
    clone = require("sklearn.base", "compare").clone
    if selector.method == "stg":
        fits = [clone(selector).set_params(n_features=int(count)).fit(x, y) for count in counts]
        return [fit.get_support() for fit in fits]
    ranking = clone(selector).set_params(n_features=int(counts[0])).fit(x, y).ranking_
    return [ranking <= count for count in counts]


def _model(classes: bool) -> Any:
    linear = require("sklearn.linear_model", "compare")
    scaler = require("sklearn.preprocessing", "compare").StandardScaler()
    last = linear.LogisticRegression(max_iter=1000) if classes else linear.Ridge(alpha=1e-3)
    return require("sklearn.pipeline", "compare").make_pipeline(scaler, last)


def _default_counts(features: int) -> list[int]:
    return [*[2**i for i in range(features.bit_length()) if 2**i < features], features]
