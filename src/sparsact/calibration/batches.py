"""The batches that a model is calibrated on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sparsact._common.errors import InputError

Batch = Tensor | Mapping[str, Any] | tuple[Any, ...] | list[Any]
"""The input of one forward: a tensor, keyword inputs, or positional ones."""

LossFunction = Callable[[Any, Batch], Tensor]
"""Takes the model's output and the batch; returns the loss summed over the tokens that count."""

Target = Callable[[Any, Batch], Tensor]
"""Takes the model's output and the batch; returns the tensor that must stay close to the dense
model's."""


def reusable_batches(batches: Iterable[Batch]) -> Sequence[Batch] | Iterable[Batch]:
    """The batches in a form that can be read several times: an iterator is read into a list.

    Raises:
        TypeError: it is a single batch.
    """
    check_batches(batches)
    return list(batches) if iter(batches) is batches else batches


def first_batch(batches: Iterable[Batch], purpose: str) -> Batch:
    """The first batch.

    Raises:
        InputError: there is none; the message says that there is none to `purpose` on.
    """
    first = next(iter(batches), None)
    if first is None:
        raise no_batches(purpose)
    return first


def no_batches(purpose: str) -> InputError:
    """The error for batches that are empty."""
    return InputError(f"there are no batches to {purpose} on")


def check_batches(batches: Iterable[Batch]) -> None:
    """Raise TypeError for a single batch, which would be read row by row."""
    if isinstance(batches, (Tensor, Mapping)):
        raise TypeError(
            f"batches must be a sequence of batches, got one {type(batches).__name__}: wrap it in "
            "a list"
        )
