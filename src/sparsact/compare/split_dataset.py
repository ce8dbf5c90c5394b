"""From a data set to tensors: infer the task, split into three parts, standardise."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact._common.table_cells import is_number
from sparsact.compare.read_dataset import Dataset, Floats

Task = Literal["classify", "regress", "reconstruct"]
SMALLEST_CLASS = 5
SMALLEST_SET = 20
MOST_CLASSES = 50


@dataclass(frozen=True)
class Part:
    """Inputs (samples, features) float32 and targets: (samples,) int64 or (samples, outputs)."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class SplitData:
    """A data set in three parts, standardised with the statistics of the training part.

    Attributes:
        name: of the data set.
        task: what is learned.
        train: the part to train on.
        validation: the part that choices are made on.
        test: the part that results are measured on.
        outputs: width of the network's output.
        mean: of each column; float64, because a large offset loses its digits in float32.
        scale: standard deviation of each column, float64.
        columns: a name per feature.
        classes: in the order of their numbers; empty unless the task is to classify.
        target_mean: mean of the target to regress, else 0.
        target_scale: standard deviation of the target to regress, else 1.
        notes: remarks about the data for the user.
        fingerprint: changes when the data or the task change.
    """

    name: str
    task: Task
    train: Part
    validation: Part
    test: Part
    outputs: int
    mean: Tensor
    scale: Tensor
    columns: tuple[str, ...]
    classes: tuple[str | float, ...]
    target_mean: float
    target_scale: float
    notes: tuple[str, ...]
    fingerprint: str

    def to(self, device: torch.device) -> "SplitData":
        """The same with the three parts on `device`."""
        train, validation, test = (
            Part(part.x.to(device), part.y.to(device))
            for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)


def split(dataset: Dataset, task: Task | None) -> SplitData:
    """Split 60/20/20 (stratified by class) with a fixed seed; standardise on the first part.

    Args:
        dataset: as read.
        task: what to learn; None infers it from the target.

    Raises:
        InputError: there are too few samples, a class is too small, or the target does not suit
            the task.
    """
    if len(dataset.x) < SMALLEST_SET:
        raise InputError(
            f"{dataset.name} has {len(dataset.x)} samples; at least {SMALLEST_SET} are needed "
            "for three parts"
        )
    task = task or _infer_task(dataset)
    targets: NDArray[Any]
    targets, outputs = _targets(dataset, task)
    rows = _part_rows(len(dataset.x), targets if task == "classify" else None)
    mean, scale = _standardiser(dataset.x[rows[0]], dataset.columns)
    target_mean, target_scale = 0.0, 1.0
    x = (dataset.x - mean) / scale
    if task == "reconstruct":
        targets, outputs = x, x.shape[1]
    elif task == "regress":
        statistics = _standardiser(targets[rows[0]], ("the target",))
        target_mean, target_scale = (float(values[0]) for values in statistics)
        targets = (targets - target_mean) / target_scale
    if task != "classify":
        _check_spread(dataset.name, targets, rows)
    train, validation, test = (_part(x[index], targets[index], task) for index in rows)
    return SplitData(
        name=dataset.name,
        task=task,
        train=train,
        validation=validation,
        test=test,
        outputs=outputs,
        mean=torch.from_numpy(mean),
        scale=torch.from_numpy(scale),
        columns=dataset.columns,
        classes=() if task != "classify" or dataset.y is None else _classes(dataset.y),
        target_mean=target_mean,
        target_scale=target_scale,
        notes=_notes(dataset, rows[0], task),
        fingerprint=_fingerprint(dataset, task),
    )


def _classes(y: NDArray[Any]) -> tuple[str | float, ...]:
    return tuple(np.unique(y).tolist())


def _infer_task(dataset: Dataset) -> Task:
    if dataset.y is None:
        return "reconstruct"
    y: NDArray[Any] = dataset.y
    if not np.issubdtype(y.dtype, np.number):
        return "classify"
    few = len(np.unique(y)) <= min(MOST_CLASSES, len(y) // SMALLEST_CLASS)
    return "classify" if few and bool((y == np.round(y)).all()) else "regress"


def _targets(dataset: Dataset, task: Task) -> tuple[NDArray[Any], int]:
    y = dataset.y
    if task == "reconstruct":
        return dataset.x, dataset.x.shape[1]
    if y is None:
        raise InputError(
            f"{dataset.name} has nothing to predict for task={task}: name a column with target=, "
            "add y, put images into a folder per class, or use task=reconstruct"
        )
    if task == "regress":
        if not np.issubdtype(y.dtype, np.number):
            raise InputError(f"{dataset.name}: task=regress needs numbers, but {_first_text(y)}")
        values = y.astype(np.float64)
        if _is_constant(values):
            raise InputError(f"{dataset.name}: the target is {values[0]:g} everywhere")
        return values[:, None], 1
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"{dataset.name} has one class only: {classes[0]!s}")
    smallest = int(counts.argmin())
    if counts[smallest] < SMALLEST_CLASS:
        raise InputError(
            f"{dataset.name}: class {classes[smallest]!s} has {counts[smallest]} sample(s); every "
            f"class needs {SMALLEST_CLASS} to be in all three parts. Merge or drop it, or use "
            f"task=regress{_advice(y)}"
        )
    return labels.astype(np.int64), len(classes)


def _advice(y: NDArray[Any]) -> str:
    """What to repair first if most of the labels are numbers."""
    if np.issubdtype(y.dtype, np.number) or np.mean([is_number(str(cell)) for cell in y]) < 0.5:
        return ""
    return f" once all are numbers ({_first_text(y)})"


def _first_text(y: NDArray[Any]) -> str:
    row = next(row for row, cell in enumerate(y) if not is_number(str(cell)))
    return f"row {row + 1} of the target is {str(y[row])!r}"


def _part_rows(samples: int, labels: NDArray[Any] | None) -> list[NDArray[np.int64]]:
    cut = require("sklearn.model_selection", "compare").train_test_split
    train, rest = cut(np.arange(samples), test_size=0.4, random_state=0, stratify=labels)
    rest_labels = None if labels is None else labels[rest]
    validation, test = cut(rest, test_size=0.5, random_state=0, stratify=rest_labels)
    return [train, validation, test]


def _check_spread(name: str, targets: Floats, rows: list[NDArray[np.int64]]) -> None:
    """Raise InputError if a target is constant within a part: R² divides by its spread there."""
    for part, index in zip(("training", "validation", "test"), rows, strict=True):
        if (targets[index] == targets[index[0]]).all():
            raise InputError(
                f"{name}: the target is the same for every sample of the {part} part, so R² is "
                "not defined"
            )


def _standardiser(values: NDArray[Any], names: Sequence[str]) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = values.mean(0), values.std(0)
    overflowing = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(spread)))
    if len(overflowing):
        column = overflowing[0]
        raise InputError(
            f"the values of {names[column]}, up to {np.abs(values[:, column]).max():g}, are "
            "too large to be standardised: divide them by a constant"
        )
    # the deviation of equal values is not always 0 in floating point
    return mean, np.where(_is_constant(values) | (spread == 0), 1.0, spread)


def _is_constant(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each column is constant; a single dim is one column."""
    constant: NDArray[np.bool_] = values.max(0) == values.min(0)
    return constant


def _part(x: Floats, y: NDArray[Any], task: Task) -> Part:
    dtype = torch.int64 if task == "classify" else torch.float32
    return Part(torch.from_numpy(x).float(), torch.from_numpy(y).to(dtype))


def _notes(dataset: Dataset, train: NDArray[np.int64], task: Task) -> tuple[str, ...]:
    constant = np.flatnonzero(_is_constant(dataset.x[train]))
    if not len(constant):
        return ()
    names = ", ".join(dataset.columns[i] for i in constant[:3]) + (", …" * (len(constant) > 3))
    return (
        f"{len(constant)} of {dataset.x.shape[1]} columns have no variance in the training part "
        f"({names}); they are kept, unscaled",
    )


def _fingerprint(dataset: Dataset, task: Task) -> str:
    digest = hashlib.sha256(task.encode())
    digest.update(np.ascontiguousarray(dataset.x).tobytes())
    if dataset.y is not None:
        digest.update(np.ascontiguousarray(dataset.y).tobytes())
    return digest.hexdigest()[:16]
