"""Which samples are in which part."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.compare.data.dataset import PARTS, Dataset

Rows = NDArray[np.int64]
FOLDS = 5


def part_rows(dataset: Dataset, labels: NDArray[Any] | None) -> tuple[list[Rows], str]:
    """The rows of the training, validation and test part, and a note unless they are random.

    By default 60/20/20 with a fixed seed, stratified by `labels`. The data can name the parts,
    groups that must stay together, or times, of which the last ones are the test part.

    Raises:
        InputError: a part would be empty.
    """
    samples = len(dataset.x)
    if dataset.parts is not None:
        return _named(dataset, labels)
    if dataset.groups is not None:
        return _grouped(dataset.name, dataset.groups, labels)
    if dataset.times is not None:
        return _in_order(dataset.name, dataset.times)
    train, rest = _cut(np.arange(samples), 0.4, labels)
    validation, test = _cut(rest, 0.5, labels)
    return [train, validation, test], ""


def check_classes(
    dataset: Dataset, rows: list[Rows], labels: NDArray[Any], classes: NDArray[Any]
) -> None:
    """Raise InputError if a class cannot be learned because the training part lacks it."""
    known = set(np.unique(labels[rows[0]]).tolist())
    if len(known) < 2:
        raise InputError(f"{dataset.name}: the training part has one class only")
    for part, index in zip(PARTS[1:], rows[1:], strict=True):
        strange = sorted(set(labels[index].tolist()) - known)
        if strange:
            raise InputError(
                f"{dataset.name}: class {classes[strange[0]]!s} is in the {part} part, but not in "
                "the training part"
            )


def _cut(rows: Rows, share: float, labels: NDArray[Any] | None) -> tuple[Rows, Rows]:
    cut = require("sklearn.model_selection", "compare").train_test_split
    strata = None if labels is None else labels[rows]
    first, second = cut(rows, test_size=share, random_state=0, stratify=strata)
    return first, second


def _named(dataset: Dataset, labels: NDArray[Any] | None) -> tuple[list[Rows], str]:
    rows = [np.flatnonzero(dataset.parts == part) for part in PARTS]
    if not len(rows[0]):
        raise InputError(f"{dataset.name}: no sample is in the training part")
    note = ""
    missing = [part for part, index in zip(PARTS, rows, strict=True) if not len(index)]
    if len(missing) == 2:
        raise InputError(f"{dataset.name}: every sample is in the training part")
    if missing:
        place = PARTS.index(missing[0])
        if labels is not None and np.unique(labels[rows[0]], return_counts=True)[1].min() < 4:
            labels = None
        rows[0], rows[place] = _cut(rows[0], 0.25, labels)
        note = f"; the {missing[0]} part is a random quarter of the training part"
    sizes = " / ".join(str(len(index)) for index in rows)
    return rows, f"split as the data say: {sizes} samples to train, validate and test{note}"


def _grouped(
    name: str, groups: NDArray[Any], labels: NDArray[Any] | None
) -> tuple[list[Rows], str]:
    """Whole groups, about 60/20/20 of the samples, with the classes spread evenly."""
    count = len(np.unique(groups))
    if count < FOLDS:
        raise InputError(
            f"{name} has {count} groups; at least {FOLDS} are needed to put whole groups into "
            "three parts"
        )
    selection = require("sklearn.model_selection", "compare")
    strata = np.zeros(len(groups)) if labels is None else labels
    splitter = selection.StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = [index for _, index in splitter.split(strata, strata, groups)]
    rows = [np.sort(np.concatenate(folds[2:])), folds[0], folds[1]]
    return rows, f"{count} groups, each in one part only"


def _in_order(name: str, times: NDArray[Any]) -> tuple[list[Rows], str]:
    """The first 60 % of the samples, the next 20 % and the last; equal times stay together."""
    values, counts = np.unique(times, return_counts=True)
    until = np.cumsum(counts) / len(times)
    ends = [int(np.searchsorted(until, share - 1e-9)) for share in (0.6, 0.8)]
    if not ends[0] < ends[1] < len(values) - 1:
        raise InputError(f"{name} has {len(values)} different times, too few for three parts")
    order = np.argsort(times, kind="stable")
    place = np.searchsorted(values, times[order])
    part = np.searchsorted(ends, place)  # a time at an end is still before it
    return [order[part == i] for i in range(3)], "split by time: the last samples are the test part"
