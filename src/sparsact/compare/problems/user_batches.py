"""Batches of any data that a user has: arrays, data sets, loaders, lists of batches."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sparsact._common.errors import InputError
from sparsact.compare.problems.batches import Batch, on_device
from sparsact.compare.problems.user_rows import RowBatches, rows_of

Splitter = Callable[[Any], Batch]


def readable(
    argument: str,
    data: Any,
    batch_size: int,
    *,
    shuffle: bool,
    target: str | None = None,
    classes: dict[Any, int],
) -> Iterable[Any]:
    """Turn data into batches that can be read any number of times.

    Args:
        argument: the name of the argument, for errors.
        data: arrays, a data set, a loader, or an iterable of batches.
        batch_size: of arrays and data sets.
        shuffle: whether a data set is read in a new order each time.
        target: the column of a data frame to predict.
        classes: class → number of a target of words; it is filled by the first part.

    Raises:
        InputError: the data are empty, or can be read only once.
    """
    rows = rows_of(argument, data, target, classes)
    if rows is not None:
        return RowBatches(rows, batch_size)
    if hasattr(data, "with_format") and hasattr(data, "column_names"):  # of the package datasets
        data = data.with_format("torch")
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size)
    is_map = isinstance(data, Dataset) or hasattr(data, "column_names")
    if is_map and isinstance(data, Sized):
        if len(data) == 0:
            raise InputError(f"{argument} is empty")
        return DataLoader(data, batch_size, shuffle=shuffle)  # type: ignore[arg-type]
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise InputError(
            f"{argument} must be arrays, a data frame, a Dataset, a DataLoader or an iterable of "
            f"batches, got {type(data).__name__}"
        )
    if isinstance(data, Iterator):
        raise InputError(
            f"{argument} can be read only once, and every training reads it: pass a DataLoader, "
            "or a list of its batches"
        )
    return data


class UserSource:
    """One part of a user's data.

    Args:
        argument: the name of the argument, for errors.
        batches: can be read any number of times.
        split: tells the inputs of a batch from its target.
        device: where the batches go.
    """

    def __init__(
        self, argument: str, batches: Iterable[Any], split: Splitter, device: torch.device
    ) -> None:
        self.argument, self.batches = argument, batches
        self.split, self.device = split, device
        self._structure: str | None = None  # of the first batch that was ever read

    def shuffled(self, order: torch.Generator) -> Iterator[Batch]:
        """All batches once, in an order that depends on the generator alone."""
        if isinstance(self.batches, RowBatches):
            return self._checked(self.batches.shuffled(order))
        seed = int(torch.randint(2**31, (1,), generator=order))
        torch.manual_seed(seed)  # samplers without a generator of their own read it here
        sampler = getattr(self.batches, "sampler", None)
        for owner in (self.batches, sampler):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)
        return self._checked(self.batches)

    def in_order(self) -> Iterator[Batch]:
        """All batches once, for measuring."""
        return self._checked(self.batches)

    def _checked(self, batches: Iterable[Any]) -> Iterator[Batch]:
        number = 0
        for number, raw in enumerate(batches, 1):
            structure = structure_of(raw)
            self._structure = self._structure or structure
            if structure != self._structure:
                raise InputError(
                    f"batch {number} of {self.argument} is {structure}, but the first is "
                    f"{self._structure}"
                )
            batch = self.split(on_device(raw, self.device))
            if batch.samples == 0:
                raise InputError(f"batch {number} of {self.argument} has no samples")
            yield batch
        if number == 0:
            raise InputError(f"{self.argument} has no batches")


def structure_of(raw: Any) -> str:
    """What a batch consists of, without the sizes."""
    if isinstance(raw, (Tensor, np.ndarray)):
        dtype = str(raw.dtype).removeprefix("torch.")
        return f"{dtype} of {raw.ndim} dims"
    if isinstance(raw, Mapping):
        inside = ", ".join(f"{name}: {structure_of(raw[name])}" for name in sorted(raw))
        return f"{{{inside}}}"
    if isinstance(raw, (tuple, list)):
        return f"({', '.join(map(structure_of, raw))})"
    return type(raw).__name__


def splitter(argument: str, model: nn.Module, raw: Any) -> tuple[Splitter, tuple[str, ...]]:
    """Say how batches like `raw` are split into inputs and target.

    Returns:
        the splitter, and the keys of a dict that the model does not take.
    """
    if isinstance(raw, Mapping):
        keys = [str(key) for key in raw]
        taken = _taken(model, keys)
        if not taken:
            raise InputError(
                f"a batch of {argument} has the keys {', '.join(keys)}; the forward of the model "
                "takes none of them"
            )
        dropped = tuple(key for key in keys if key not in taken and key not in TARGETS)
        return lambda raw: _split_dict(raw, taken), dropped
    if isinstance(raw, (Tensor, np.ndarray)) or (isinstance(raw, (tuple, list)) and raw):
        return _split_sequence, ()
    raise InputError(
        f"a batch of {argument} must be a tensor, a tuple or a dict of tensors, got "
        f"{type(raw).__name__}"
    )


TARGETS = ("labels", "label", "target", "targets", "y")
"""The keys that hold the target in a dict."""


def _split_dict(raw: Mapping[str, Any], taken: frozenset[str]) -> Batch:
    target = next((raw[key] for key in TARGETS if key in raw), None)
    return Batch({key: raw[key] for key in raw if key in taken}, target, raw)


def _split_sequence(raw: Any) -> Batch:
    if isinstance(raw, Tensor):
        return Batch(raw, raw, raw)
    *inputs, target = raw
    if not inputs:
        return Batch(target, target, raw)
    return Batch(inputs[0] if len(inputs) == 1 else tuple(inputs), target, raw)


def _taken(model: nn.Module, keys: list[str]) -> frozenset[str]:
    """The keys that the forward of a model takes."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return frozenset(keys)
    names = {parameter.name for parameter in parameters}
    return frozenset(key for key in keys if key in names)
