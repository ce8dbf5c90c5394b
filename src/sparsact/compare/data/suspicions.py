"""What makes a result worth less than it seems: one line each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.extras import require
from sparsact.compare.data.dataset import Dataset, Floats
from sparsact.compare.data.split_rows import Rows

GIVEN_AWAY = 0.99
MOST_ROWS = 1000
LARGEST_SHARE = 0.8


def suspicions(
    dataset: Dataset,
    features: Floats,
    targets: NDArray[Any],
    rows: list[Rows],
    classes: Sequence[Any],
) -> list[str]:
    """Remarks about columns that are an index or give the target away, and about rare classes.

    Args:
        dataset: with fitted encoders.
        features: (samples, features).
        targets: (samples,) class numbers, or (samples, outputs).
        rows: of the three parts.
        classes: empty unless the task is to classify.
    """
    notes: list[str] = []
    if dataset.image_shape is None:
        notes += _columns_that_count(dataset, features)
        notes += _columns_that_give_away(dataset, features, targets, rows, bool(classes))
    if classes:
        counts = np.bincount(targets)
        share = float(counts.max() / counts.sum())
        if share >= LARGEST_SHARE:
            largest = classes[int(counts.argmax())]
            notes.append(
                f"{share:.1%} of the samples are of class {largest!s}: always choosing it has an "
                f"accuracy of {share:.3f}"
            )
    return notes


def _spans(dataset: Dataset) -> Iterator[tuple[str, slice]]:
    """The name of each column, and where its features are."""
    if dataset.encoder is not None:
        for column, span in dataset.encoder.spans():
            yield column.name, span
    else:
        for place, name in enumerate(dataset.columns):
            yield name, slice(place, place + 1)


def _columns_that_count(dataset: Dataset, features: Floats) -> Iterator[str]:
    """Columns of whole numbers or words that are unique and sorted."""
    kinds: dict[str, str] = {}
    if dataset.encoder is not None:
        kinds = {column.name: column.kind for column in dataset.encoder.columns}
    for name, span in _spans(dataset):
        kind = kinds.get(name, "number")
        if kind == "text":
            cells = dataset.x[name].astype(str).to_numpy(dtype=object)
            is_sorted = bool((cells[1:] > cells[:-1]).all())
        elif kind == "number":
            cells = features[:, span.start]
            steps = np.diff(cells)
            whole = bool((cells == np.round(cells)).all())
            is_sorted = whole and bool((steps > 0).all() or (steps < 0).all())
        else:
            continue
        if is_sorted:
            yield f"column {name!r} is unique and sorted, like an index: consider ignore={name}"


def _columns_that_give_away(
    dataset: Dataset, features: Floats, targets: NDArray[Any], rows: list[Rows], classify: bool
) -> Iterator[str]:
    """Columns from which a tree alone predicts the target of the validation part."""
    tree = require("sklearn.tree", "compare")
    train, validation = (index[:: -(-len(index) // MOST_ROWS)] for index in rows[:2])
    kind = tree.DecisionTreeClassifier if classify else tree.DecisionTreeRegressor
    for name, span in _spans(dataset):
        model = kind(min_samples_leaf=2, max_leaf_nodes=256, random_state=0)
        model.fit(features[train, span], targets[train])
        prediction = model.predict(features[validation, span])
        score = _score(prediction, targets[validation], classify)
        if score >= GIVEN_AWAY:
            words = "balanced accuracy" if classify else "R²"
            yield (
                f"column {name!r} alone predicts the target ({words} {score:.3f} of a tree on it): "
                f"if it would not be known in use, ignore={name}"
            )


def _score(prediction: NDArray[Any], target: NDArray[Any], classify: bool) -> float:
    """Balanced accuracy, or the smallest R² of the targets."""
    if classify:
        hits = [np.mean(prediction[target == label] == label) for label in np.unique(target)]
        return float(np.mean(hits))
    error = np.square(prediction.reshape(target.shape) - target).sum(0)
    spread = np.square(target - target.mean(0)).sum(0)
    return float((1 - error / spread).min()) if (spread > 0).all() else -np.inf
