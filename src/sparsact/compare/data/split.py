"""From a data set to tensors: choose the task, split into three parts, encode, standardise."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact.compare.data.dataset import PARTS, Dataset, Floats, Part, SplitData, Task
from sparsact.compare.data.split_rows import Rows, check_classes, part_rows
from sparsact.compare.data.suspicions import suspicions
from sparsact.compare.data.targets import (
    check_class_sizes,
    class_numbers,
    infer_task,
    plain_target,
    values,
)

SMALLEST_SET = 20


def split(dataset: Dataset, task: Task | None) -> SplitData:
    """Split, by default 60/20/20 with a fixed seed; fit all statistics on the first part.

    Args:
        dataset: as read.
        task: what to learn; None takes what the data are known for, or infers it from the target.

    Raises:
        InputError: there are too few samples, a class is too small, or the target does not suit
            the task.
    """
    if len(dataset.x) < SMALLEST_SET:
        raise InputError(
            f"{dataset.name} has {len(dataset.x)} samples; at least {SMALLEST_SET} are needed "
            "for three parts"
        )
    y, target_note = plain_target(dataset)
    task, task_note = (task or dataset.task, "")
    if task is None:
        task, task_note = infer_task(y)
    if y is None and task != "reconstruct":
        raise InputError(
            f"{dataset.name} has nothing to predict for task={task}: name a column with target=, "
            "add y, put images into a folder per class, or use task=reconstruct"
        )
    return _tensors(replace(dataset, y=y), task, (*dataset.notes, target_note, task_note))


def _tensors(dataset: Dataset, task: Task, notes: Sequence[str]) -> SplitData:
    labels, classes = None, np.zeros(0)
    if task == "classify":
        assert dataset.y is not None
        labels, classes = class_numbers(dataset.name, dataset.y)
        if dataset.parts is None and dataset.groups is None and dataset.times is None:
            check_class_sizes(dataset.name, dataset.y, labels)
    rows, split_note = part_rows(dataset, labels)
    if labels is not None:
        check_classes(dataset, rows, labels, classes)
    dataset, features = _encoded(dataset, rows[0])
    mean, scale = _standardiser(features[rows[0]], dataset.columns)
    x = (features - mean) / scale
    targets, target_mean, target_scale = _targets(dataset, task, labels, x, rows)
    train, validation, test = (_part(x[index], targets[index], task) for index in rows)
    notes = [*notes, split_note]
    if task != "reconstruct":
        notes += suspicions(dataset, features, targets, rows, classes.tolist())
    if dataset.image_shape is None:  # the border of images is often the same
        notes += _constant_columns(features[rows[0]], dataset.columns)
    return SplitData(
        name=dataset.name,
        task=task,
        train=train,
        validation=validation,
        test=test,
        outputs=len(classes) if task == "classify" else targets.shape[1],
        mean=torch.from_numpy(mean),
        scale=torch.from_numpy(scale),
        columns=dataset.columns,
        classes=tuple(classes.tolist()),
        target_mean=_scalar(target_mean),
        target_scale=_scalar(target_scale),
        notes=tuple(filter(None, notes)),
        fingerprint=_fingerprint(dataset, features, task),
        encoder=dataset.encoder,
        image_shape=dataset.image_shape,
        default_network=dataset.default_network,
    )


def _encoded(dataset: Dataset, train: Rows) -> tuple[Dataset, Floats]:
    """The data set with fitted encoders and a name per feature, and the features."""
    if dataset.encoder is None:
        return dataset, dataset.x
    encoder = dataset.encoder.fit(dataset.x.iloc[train])
    features = encoder.encode(dataset.x)
    return replace(dataset, encoder=encoder, columns=encoder.features()), features


def _targets(
    dataset: Dataset, task: Task, labels: NDArray[np.int64] | None, x: Floats, rows: list[Rows]
) -> tuple[NDArray[Any], Floats, Floats]:
    """The targets that are learned, and the mean and scale that were taken off them."""
    mean, scale = np.zeros(1), np.ones(1)
    if labels is not None:
        return labels, mean, scale
    if task == "reconstruct":
        _check_spread(dataset.name, x, rows)
        return x, mean, scale
    assert dataset.y is not None
    targets = values(dataset.name, dataset.y)
    names = [f"the target {name!r}" for name in dataset.target] or ["the target"]
    mean, scale = _standardiser(targets[rows[0]], names * targets.shape[1])
    targets = (targets - mean) / scale
    _check_spread(dataset.name, targets, rows)
    return targets, mean, scale


def _scalar(statistics: Floats) -> float | tuple[float, ...]:
    return float(statistics[0]) if len(statistics) == 1 else tuple(statistics.tolist())


def _check_spread(name: str, targets: Floats, rows: list[Rows]) -> None:
    """Raise InputError if a target is constant within a part: R² divides by its spread there."""
    for part, index in zip(("training", *PARTS[1:]), rows, strict=True):
        if (targets[index] == targets[index[0]]).all():
            raise InputError(
                f"{name}: the target is the same for every sample of the {part} part, so R² is "
                "not defined"
            )


def _standardiser(array: NDArray[Any], names: Sequence[str]) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = array.mean(0), array.std(0)
    overflowing = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(spread)))
    if len(overflowing):
        column = overflowing[0]
        raise InputError(
            f"the values of {names[column]}, up to {np.abs(array[:, column]).max():g}, are "
            "too large to be standardised: divide them by a constant"
        )
    # the deviation of equal values is not always 0 in floating point
    return mean, np.where(_is_constant(array) | (spread == 0), 1.0, spread)


def _is_constant(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each column is constant."""
    constant: NDArray[np.bool_] = array.max(0) == array.min(0)
    return constant


def _part(x: Floats, y: NDArray[Any], task: Task) -> Part:
    dtype = torch.int64 if task == "classify" else torch.float32
    return Part(torch.from_numpy(x).float(), torch.from_numpy(y).to(dtype))


def _constant_columns(train: Floats, columns: Sequence[str]) -> tuple[str, ...]:
    constant = np.flatnonzero(_is_constant(train))
    if not len(constant):
        return ()
    names = ", ".join(columns[i] for i in constant[:3]) + (", …" * (len(constant) > 3))
    return (
        f"{len(constant)} of {train.shape[1]} columns have no variance in the training part "
        f"({names}); they are kept, unscaled",
    )


def _fingerprint(dataset: Dataset, features: Floats, task: Task) -> str:
    digest = hashlib.sha256(task.encode())
    roles = (dataset.parts, dataset.groups, dataset.times)
    for array in (features, dataset.y, *roles):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
