"""The loss, and the kind of task, if the user names none."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsact._common.errors import InputError
from sparsact.compare.problems.batches import Batch
from sparsact.compare.problems.exchange import call_model
from sparsact.compare.problems.user_code import user_code
from sparsact.compare.results.scores import class_logits
from sparsact.compare.training.learning import (
    Learning,
    LossInOutput,
    LossOfOutput,
    LossOfStep,
    prediction_in,
)

Kind = Literal["classify", "regress"]


def find_learning(
    model: nn.Module, batch: Batch, loss: Callable[[Any, Any], Tensor] | None
) -> tuple[Learning, Kind | None]:
    """Say where the loss comes from, and what kind of task it is.

    The loss is, in this order: the user's; that of ``training_step``; the one that the model
    returns; cross-entropy of integers, or the squared error of other numbers.

    Raises:
        InputError: there is no loss that fits.
    """
    with torch.no_grad(), user_code("the model"):
        output = call_model(model, batch.inputs)
    prediction = prediction_in(output)
    kind = kind_of_task(prediction, batch.target)
    if loss is not None:
        return LossOfOutput(loss, of_prediction=False), kind
    if callable(getattr(model, "training_step", None)):
        return LossOfStep(), kind
    if isinstance(getattr(output, "loss", None), Tensor):
        # a causal model predicts the token after each, so its logits are not those of the labels
        is_one_each = prediction is not None and prediction.ndim == 2
        return LossInOutput(), kind if is_one_each else None
    if kind == "classify":
        return LossOfOutput(classification_loss), kind
    if kind == "regress":
        return LossOfOutput(regression_loss), kind
    raise InputError(
        f"loss= is needed: the model returns {_described(prediction)}, the target is "
        f"{_described(batch.target)}"
        + (" (the inputs themselves: no target is there)" if batch.target is batch.inputs else "")
    )


def kind_of_task(prediction: Tensor | None, target: Any) -> Kind | None:
    """Classification of integers, regression of other numbers, or None if the shapes differ."""
    if prediction is None or not isinstance(target, Tensor):
        return None
    is_same_size = prediction.numel() == target.numel() and len(prediction) == len(target)
    if target.is_floating_point():
        return "regress" if is_same_size else None
    if is_same_size:
        is_binary = bool(((target == 0) | (target == 1)).all())
        return "classify" if is_binary else "regress"
    classes_last = prediction.shape[:-1] == target.shape
    classes_second = prediction.shape[:1] + prediction.shape[2:] == target.shape
    return "classify" if classes_last or classes_second else None


def classification_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of integer labels; negative labels are left out."""
    if prediction.numel() == target.numel():
        return functional.binary_cross_entropy_with_logits(
            prediction, target.reshape(prediction.shape).to(prediction.dtype)
        )
    return functional.cross_entropy(*class_logits(prediction, target))


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error; the target may lack a dim of size 1."""
    return functional.mse_loss(prediction, target.reshape(prediction.shape).to(prediction.dtype))


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return "nothing" if value is None else type(value).__name__
