"""A data set as read, and the same in three standardised parts."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsact.compare.data.table_encoder import TableEncoder

Task = Literal["classify", "regress", "reconstruct"]
PARTS = ("train", "validation", "test")
Floats = NDArray[np.float64]
ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class Dataset:
    """Inputs and targets, as read.

    Attributes:
        name: its name in tables and titles.
        x: (samples, features) array of float64, finite; or a DataFrame with a column of cells per
            feature, which are encoded once the training part is known.
        y: (samples,) labels or values, (samples, targets) values, or None when there is nothing
            to predict.
        columns: a name per feature.
        target: names of the targets.
        parts: per sample, the name of its part, if the data say so. A sample of a part that is
            missing here goes into a part that `split` makes.
        groups: per sample, its group; a group is never split.
        times: per sample, its time; the last samples are the test part.
        image_shape: height, width and channels, if a row of `x` is an image.
        encoder: how the columns of a DataFrame are read; `split` fits it.
        default_network: the built-in network that suits the data.
        notes: remarks about the data for the user.
        task: what is learned from these data, if that is known.
    """

    name: str
    x: Any
    y: NDArray[Any] | None
    columns: tuple[str, ...]
    target: tuple[str, ...] = ()
    parts: NDArray[np.str_] | None = None
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    image_shape: ImageShape | None = None
    encoder: TableEncoder | None = None
    default_network: Literal["mlp", "convnet"] = "mlp"
    notes: tuple[str, ...] = ()
    task: Task | None = None


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
        target_mean: mean of the target to regress, else 0; one per target if there are several.
        target_scale: standard deviation of the target to regress, else 1; likewise.
        notes: remarks about the data for the user.
        fingerprint: changes when the data or the task change.
        encoder: turns the columns of a table into features; None if they are numbers already.
        image_shape: height, width and channels, if a row of features is an image.
        default_network: the built-in network that suits the data.
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
    target_mean: float | tuple[float, ...]
    target_scale: float | tuple[float, ...]
    notes: tuple[str, ...]
    fingerprint: str
    encoder: TableEncoder | None = None
    image_shape: ImageShape | None = None
    default_network: Literal["mlp", "convnet"] = "mlp"

    def to(self, device: torch.device) -> "SplitData":
        """The same with the three parts on `device`."""
        train, validation, test = (
            Part(part.x.to(device), part.y.to(device))
            for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)
