"""Batches of data: what a model takes, what it has to predict, and where they come from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sparsact.hooks import first_tensor


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes:
        inputs: of the model: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        target: what to predict.
        raw: the batch as the data gave it.
    """

    inputs: Any
    target: Any
    raw: Any

    @property
    def samples(self) -> int:
        """How many samples it has: the size of dim 0 of its first tensor."""
        tensor = first_tensor(self.inputs)
        return 1 if tensor is None or tensor.ndim == 0 else len(tensor)


def on_device(value: Any, device: torch.device) -> Any:
    """Put the tensors in tuples, lists and mappings on a device; arrays become tensors.

    Arrays of float64 become float32. Lists become tuples, mappings become dicts.
    """
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value.astype(np.float32) if value.dtype == np.float64 else value)
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {str(name): on_device(part, device) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(on_device(part, device) for part in value)
    return value


class BatchSource(Protocol):
    """One part of the data, which can be read any number of times."""

    def shuffled(self, order: torch.Generator) -> Iterator[Batch]:
        """All batches once, in an order that depends on the generator alone."""
        ...

    def in_order(self) -> Iterator[Batch]:
        """All batches once, for measuring."""
        ...


class TensorSource:
    """Tensors whose rows are samples.

    Args:
        x: inputs (samples, …).
        y: targets (samples, …).
        batch_size: samples per batch of training; None: all.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int | None = None) -> None:
        self.x, self.y = x, y
        self.batch_size = batch_size or len(x)

    def shuffled(self, order: torch.Generator) -> Iterator[Batch]:
        """All batches once, in an order that depends on the generator alone."""
        for rows in torch.randperm(len(self.x), generator=order).split(self.batch_size):
            yield self._batch(rows.to(self.x.device))

    def in_order(self) -> Iterator[Batch]:
        """All samples as one batch."""
        yield self._batch(slice(None))

    def _batch(self, rows: Any) -> Batch:
        x, y = self.x[rows], self.y[rows]
        return Batch(x, y, (x, y))
