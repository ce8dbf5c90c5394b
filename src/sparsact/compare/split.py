"""From a data set to tensors: the task, the three parts, the scale."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsact._errors import InputError
from sparsact._extras import require
from sparsact.compare.data import Dataset, Floats

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
    """A data set cut into three, standardised with the statistics of the training part."""

    name: str
    task: Task
    train: Part
    validation: Part
    test: Part
    outputs: int
    mean: Tensor
    scale: Tensor
    notes: tuple[str, ...]
    fingerprint: str

    def to(self, device: torch.device) -> "SplitData":
        """The same with the three parts on `device`."""
        parts = {
            name: Part(part.x.to(device), part.y.to(device))
            for name, part in [
                ("train", self.train),
                ("validation", self.validation),
                ("test", self.test),
            ]
        }
        return SplitData(**{**self.__dict__, **parts})


def split(dataset: Dataset, task: Task | None) -> SplitData:
    """Cut 60/20/20 (stratified by class) with a fixed seed, and standardise on the first part.

    Args:
        dataset: what was read.
        task: what to learn; None infers it from the target.

    Raises:
        InputError: too few samples, a class that is too small, a target that does not fit.
    """
    if len(dataset.x) < SMALLEST_SET:
        raise InputError(
            f"{dataset.name} has {len(dataset.x)} samples; at least {SMALLEST_SET} are needed "
            "for three parts"
        )
    task = task or _infer_task(dataset)
    targets: NDArray[Any]
    targets, outputs = _targets(dataset, task)
    rows = _cut(len(dataset.x), targets if task == "classify" else None)
    mean, scale = _standardiser(dataset.x[rows[0]])
    x = (dataset.x - mean) / scale
    if task == "reconstruct":
        targets, outputs = x, x.shape[1]
    elif task == "regress":
        target_mean, target_scale = _standardiser(targets[rows[0]])
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
        mean=torch.from_numpy(mean).float(),
        scale=torch.from_numpy(scale).float(),
        notes=_notes(dataset, rows[0], task),
        fingerprint=_fingerprint(dataset, task),
    )


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
            f"{dataset.name} has nothing to predict for --task {task}: name a column with "
            "--target, add y, put images into a folder per class, or use --task reconstruct"
        )
    if task == "regress":
        if not np.issubdtype(y.dtype, np.number):
            raise InputError(f"{dataset.name}: --task regress needs numbers, the target is text")
        values = y.astype(np.float64)
        if values.std() == 0:
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
            "--task regress"
        )
    return labels.astype(np.int64), len(classes)


def _cut(samples: int, labels: NDArray[Any] | None) -> list[NDArray[np.int64]]:
    cut = require("sklearn.model_selection", "compare").train_test_split
    train, rest = cut(np.arange(samples), test_size=0.4, random_state=0, stratify=labels)
    rest_labels = None if labels is None else labels[rest]
    validation, test = cut(rest, test_size=0.5, random_state=0, stratify=rest_labels)
    return [train, validation, test]


def _check_spread(name: str, targets: Floats, rows: list[NDArray[np.int64]]) -> None:
    """R² divides by the spread of the target within a part."""
    for part, index in zip(("training", "validation", "test"), rows, strict=True):
        if (targets[index] == targets[index[0]]).all():
            raise InputError(
                f"{name}: the target is the same for every sample of the {part} part, so R² is "
                "not defined"
            )


def _standardiser(values: NDArray[Any]) -> tuple[Floats, Floats]:
    spread = values.std(0)
    return values.mean(0), np.where(spread > 0, spread, 1.0)


def _part(x: Floats, y: NDArray[Any], task: Task) -> Part:
    dtype = torch.int64 if task == "classify" else torch.float32
    return Part(torch.from_numpy(x).float(), torch.from_numpy(y).to(dtype))


def _notes(dataset: Dataset, train: NDArray[np.int64], task: Task) -> tuple[str, ...]:
    constant = np.flatnonzero(dataset.x[train].std(0) == 0)
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
