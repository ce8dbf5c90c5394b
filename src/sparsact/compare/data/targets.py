"""What is learned: the task, and the targets as class numbers or values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact._common.table_cells import is_number
from sparsact.compare.data.dataset import Dataset, Task

SMALLEST_CLASS = 5
MOST_CLASSES = 50


def plain_target(dataset: Dataset) -> tuple[NDArray[Any] | None, str]:
    """The target with one dim if it is a column or one-hot, and a note about that."""
    y = dataset.y
    if y is None or y.ndim == 1:
        return y, ""
    if y.shape[1] == 1:
        return y[:, 0], ""
    if y.dtype.kind in "US":
        raise InputError(f"{dataset.name}: several targets must be numbers, but they are text")
    if not (((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()):
        return y, ""
    names = np.array(dataset.target) if dataset.target else np.arange(y.shape[1])
    return names[y.argmax(1)], f"the target is one-hot: it is read as {y.shape[1]} classes"


def infer_task(y: NDArray[Any] | None) -> tuple[Task, str]:
    """The task that suits a target, and a note if it is a guess."""
    if y is None:
        return "reconstruct", ""
    if y.ndim > 1:
        return "regress", f"{y.shape[1]} targets: they are regressed together"
    if not np.issubdtype(y.dtype, np.number):
        return "classify", ""
    if not bool((y == np.round(y)).all()):
        return "regress", ""
    count = len(np.unique(y))
    if count <= min(MOST_CLASSES, len(y) // SMALLEST_CLASS):
        advice = "" if count == 2 else "; use task=regress if they are amounts"
        return "classify", advice and f"{count} whole numbers are taken as classes{advice}"
    return "regress", (
        f"{count} different whole numbers are taken as amounts; use task=classify if they are "
        "classes"
    )


def class_numbers(name: str, y: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The number of each sample's class, and the classes.

    Raises:
        InputError: there are fewer than two classes.
    """
    if y.ndim > 1:
        raise InputError(f"{name}: task=classify takes one target, not {y.shape[1]}")
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"{name} has one class only: {classes[0]!s}")
    return labels.astype(np.int64), classes


def check_class_sizes(name: str, y: NDArray[Any], labels: NDArray[np.int64]) -> None:
    """Raise InputError if a class is too small for three random parts."""
    counts = np.bincount(labels)
    smallest = int(counts.argmin())
    if counts[smallest] < SMALLEST_CLASS:
        raise InputError(
            f"{name}: class {y[labels == smallest][0]!s} has {counts[smallest]} sample(s); every "
            f"class needs {SMALLEST_CLASS} to be in all three parts. Merge or drop it, or use "
            f"task=regress{_advice(y)}"
        )


def values(name: str, y: NDArray[Any]) -> NDArray[np.float64]:
    """Targets to regress, (samples, targets) float64.

    Raises:
        InputError: they are no numbers, or one is the same everywhere.
    """
    if not np.issubdtype(y.dtype, np.number):
        raise InputError(f"{name}: task=regress needs numbers, but {_first_text(y)}")
    columns = y.astype(np.float64).reshape(len(y), -1)
    for column in columns.T:
        if (column == column[0]).all():
            raise InputError(f"{name}: the target is {column[0]:g} everywhere")
    return columns


def _advice(y: NDArray[Any]) -> str:
    """What to repair first if most of the labels are numbers."""
    if np.issubdtype(y.dtype, np.number) or np.mean([is_number(str(cell)) for cell in y]) < 0.5:
        return ""
    if all(is_number(str(cell)) for cell in y):
        return ""
    return f" once all are numbers ({_first_text(y)})"


def _first_text(y: NDArray[Any]) -> str:
    row = next(row for row, cell in enumerate(y) if not is_number(str(cell)))
    return f"row {row + 1} of the target is {str(y[row])!r}"
