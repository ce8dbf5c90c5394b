"""The data of a selection: standardised features, and a target with its loss."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparsact._common.errors import InputError
from sparsact._common.extras import require

Task = Literal["auto", "classification", "regression"]


@dataclass(frozen=True)
class Problem:
    """Features and a target, ready for training.

    Attributes:
        x: (samples, features) float32; each feature has mean 0 and variance 1, or is 0.
        y: (samples,) classes, or (samples, targets) standardised numbers.
        outputs: the number of classes, or of targets.
        classifies: whether the targets are classes.
    """

    x: Tensor
    y: Tensor
    outputs: int
    classifies: bool

    def loss(self, prediction: Tensor) -> Tensor:
        """Cross-entropy, or half the mean squared error."""
        if self.classifies:
            return F.cross_entropy(prediction, self.y)
        return 0.5 * (prediction - self.y).square().sum(1).mean()


def prepare(x: Any, y: Any, task: Task, device: torch.device) -> Problem:
    """Standardise the features, and encode the target.

    Args:
        x: (samples, features).
        y: the target.
        task: what is predicted.
        device: where the problem goes.

    Raises:
        InputError: the task is unknown, or the target is constant.
    """
    kind = classifies(y, task)
    features = _standardised(np.asarray(x, dtype=np.float64))
    if kind:
        classes, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(classes) < 2:
            raise InputError("the target y= has one class only: there is nothing to select for")
        labels = torch.from_numpy(codes.reshape(-1)).long()
        return Problem(features.to(device), labels.to(device), len(classes), True)
    numbers = np.asarray(y, dtype=np.float64).reshape(len(features), -1)
    target = _standardised(numbers)
    if not bool((target != 0).any()):
        raise InputError("the target y= is constant: there is nothing to select for")
    return Problem(features.to(device), target.to(device), target.shape[1], False)


def classifies(y: Any, task: Task) -> bool:
    """Whether a target is taken as classes: by `task`, or texts, booleans and whole numbers."""
    if task not in ("auto", "classification", "regression"):
        raise InputError(f"task= must be 'auto', 'classification' or 'regression', got {task!r}")
    if task != "auto":
        return task == "classification"
    kind = require("sklearn.utils.multiclass", "compare").type_of_target(y)
    return kind in ("binary", "multiclass")


def _standardised(values: Any) -> Tensor:
    spread = values.std(0)
    scale = np.where(spread > 1e-12 * np.abs(values).max(initial=1e-300, axis=0), spread, np.inf)
    return torch.from_numpy((values - values.mean(0)) / scale).float()
