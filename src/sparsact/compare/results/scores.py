"""The scores by which trainings are compared; higher is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError, unknown
from sparsact._common.extras import require

RARE = 0.5
"""Classes are imbalanced if the rarest has less than this part of an even share."""


@dataclass(frozen=True)
class Score:
    """What is measured on a part of the data.

    Attributes:
        name: as the report shows it.
        measure: takes all predictions and all targets; None: the loss, negated.
    """

    name: str
    measure: Callable[[Tensor, Tensor], float] | None

    @property
    def highest(self) -> float:
        """The highest value: 0 of losses, which are negated, else 1."""
        return 0.0 if self.name.startswith("neg.") else 1.0


def class_logits(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (samples, classes) and labels (samples,) of any usual shape of both.

    The classes are on the last dim if the others are those of the target, and else on dim 1. One
    logit for each target is that of class 1 of two. Negative labels, which are padding, are left
    out.
    """
    if prediction.numel() == target.numel():
        logits = torch.stack([torch.zeros_like(prediction), prediction], -1)
    else:
        logits = prediction if prediction.shape[:-1] == target.shape else prediction.movedim(1, -1)
    labels = target.reshape(-1).long()
    counts = labels >= 0
    return logits.reshape(len(labels), -1)[counts], labels[counts]


def _of_classes(measure: Callable[[Any, Any, Any], float]) -> Callable[[Tensor, Tensor], float]:
    """A score of labels, predicted labels and probabilities."""

    def score(prediction: Tensor, target: Tensor) -> float:
        logits, labels = class_logits(prediction.double(), target)
        shares = logits.softmax(-1).cpu().numpy()
        return float(measure(labels.cpu().numpy(), logits.argmax(-1).cpu().numpy(), shares))

    return score


def _of_values(measure: Callable[[Any, Any], float]) -> Callable[[Tensor, Tensor], float]:
    """A score of the values (samples, outputs) and the predicted values."""

    def score(prediction: Tensor, target: Tensor) -> float:
        rows = len(target)
        values = (t.detach().double().cpu().reshape(rows, -1).numpy() for t in (target, prediction))
        return float(measure(*values))

    return score


def _metrics() -> Any:
    return require("sklearn.metrics", "compare")


def _recall(labels: Any, predicted: Any) -> float:
    present = sorted(set(labels.tolist()))
    recall = _metrics().recall_score
    return float(recall(labels, predicted, labels=present, average="macro", zero_division=0))


def _f1(labels: Any, predicted: Any, shares: Any) -> float:
    average = "binary" if shares.shape[1] == 2 else "macro"
    return float(_metrics().f1_score(labels, predicted, average=average, zero_division=0))


def _auc(labels: Any, shares: Any) -> float:
    classes = range(shares.shape[1])
    missing = set(classes) - set(labels.tolist())
    if missing:
        raise InputError(f"score=auc needs samples of every class; there are none of {missing}")
    if len(classes) == 2:
        return float(_metrics().roc_auc_score(labels, shares[:, 1]))
    return float(_metrics().roc_auc_score(labels, shares, multi_class="ovr"))


def _log_loss(labels: Any, shares: Any) -> float:
    return -float(_metrics().log_loss(labels, shares, labels=range(shares.shape[1])))


def _r2(prediction: Tensor, target: Tensor) -> float:
    """1 minus the squared error over that of the part's own mean, both over all outputs.

    scikit-learn's leaves out the errors of outputs that are constant in the part.
    """
    prediction = prediction.reshape(target.shape)
    error = (prediction - target).double().square().sum()
    spread = (target - target.mean(0)).double().square().sum()
    return float(1 - error / spread)


SCORES = {
    "accuracy": Score(
        "accuracy", _of_classes(lambda labels, p, s: _metrics().accuracy_score(labels, p))
    ),
    "balanced_accuracy": Score(
        "balanced accuracy", _of_classes(lambda labels, p, s: _recall(labels, p))
    ),
    "f1": Score("F1", _of_classes(_f1)),
    "auc": Score("AUC", _of_classes(lambda labels, p, s: _auc(labels, s))),
    "log_loss": Score("neg. log loss", _of_classes(lambda labels, p, s: _log_loss(labels, s))),
    "r2": Score("R²", _r2),
    "mae": Score("neg. MAE", _of_values(lambda y, p: -_metrics().mean_absolute_error(y, p))),
    "loss": Score("neg. loss", None),
}
"""The scores that have a name; scikit-learn computes all but R² and the loss."""

OF_CLASSES = ("accuracy", "balanced_accuracy", "f1", "auc", "log_loss")
OF_VALUES = ("r2", "mae")


def named_score(name: str, allowed: tuple[str, ...]) -> Score:
    """Find a score by its name.

    Raises:
        InputError: the name is unknown, or the score does not suit the task.
    """
    if name not in SCORES:
        raise unknown("score", name, SCORES)
    if name not in (*allowed, "loss"):
        raise InputError(f"score={name} does not suit this task: choose from {', '.join(allowed)}")
    return SCORES[name]


def default_class_score(labels: Tensor) -> str:
    """Balanced accuracy if a class is rare, else accuracy."""
    counts = torch.bincount(labels[labels >= 0].reshape(-1).long().cpu())
    counts = counts[counts > 0]
    is_rare = len(counts) > 1 and counts.min() * len(counts) < RARE * counts.sum()
    return "balanced_accuracy" if is_rare else "accuracy"


def own_score(function: Callable[[Any, Any], Any]) -> Score:
    """The score of a user's function of all predictions and all targets."""

    def measure(prediction: Tensor, target: Tensor) -> float:
        return as_number("score=", function(prediction, target))

    return Score(getattr(function, "__name__", "score").replace("<lambda>", "score"), measure)


def as_number(argument: str, value: Any) -> float:
    """Turn what a user's function returned into a number.

    Raises:
        InputError: it is something else.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise InputError(
            f"{argument} must return a number, got {type(value).__name__}{shape}"
        ) from None
