"""Arrays and data frames of a user as tensors whose rows are samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsact._common.errors import InputError, unknown
from sparsact.compare.problems.user_frames import is_frame

Rows = dict[str, Tensor] | tuple[Tensor, ...]


class RowBatches:
    """Batches of tensors in memory.

    Args:
        rows: tensors of the same length, as a tuple or as a dict.
        batch_size: samples per batch.
    """

    def __init__(self, rows: Rows, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.samples = len(_values(rows)[0])

    def __iter__(self) -> Iterator[Any]:
        """All batches, in order."""
        return self._batches(torch.arange(self.samples))

    def shuffled(self, order: torch.Generator) -> Iterator[Any]:
        """All batches, in an order that depends on the generator."""
        return self._batches(torch.randperm(self.samples, generator=order))

    def _batches(self, order: Tensor) -> Iterator[Any]:
        for rows in order.split(self.batch_size):
            if isinstance(self.rows, dict):
                yield {name: value[rows] for name, value in self.rows.items()}
            else:
                yield tuple(value[rows] for value in self.rows)


def rows_of(argument: str, data: Any, target: str | None, classes: dict[Any, int]) -> Rows | None:
    """Turn arrays into tensors; None for what is no array.

    Args:
        argument: the name of the argument, for errors.
        data: a tensor, array or data frame; a tuple of those, of which the last is the target; or
            a dict of those.
        target: the column of a data frame to predict.
        classes: class → number of a target of words; what is found in the first part is kept.

    Raises:
        InputError: the lengths differ, or a column is no number.
    """
    if is_frame(data):
        rows: Rows = _frame_rows(argument, data, target, classes)
    elif _is_array(data):
        rows = (_tensor(argument, data),)
    elif isinstance(data, tuple) and len(data) > 1 and all(map(_is_array_or_frame, data)):
        *inputs, last = data
        rows = (*(_inputs(argument, x) for x in inputs), _target(argument, last, classes))
    elif isinstance(data, Mapping) and data and all(map(_is_array_or_frame, data.values())):
        rows = {str(name): _inputs(argument, value) for name, value in data.items()}
    else:
        return None
    lengths = sorted({len(value) for value in _values(rows)})
    if len(lengths) > 1:
        raise InputError(f"{argument} has arrays of different lengths: {lengths}")
    if lengths == [0]:
        raise InputError(f"{argument} is empty")
    return rows


def _values(rows: Rows) -> list[Tensor]:
    return list(rows.values() if isinstance(rows, dict) else rows)


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) or hasattr(value, "__array__")


def _is_array_or_frame(value: Any) -> bool:
    return is_frame(value) or _is_array(value)


def _frame_rows(
    argument: str, frame: Any, target: str | None, classes: dict[Any, int]
) -> tuple[Tensor, ...]:
    if target is None:
        raise InputError(f"{argument} is a data frame: name the column to predict with target=")
    if target not in frame.columns:
        raise unknown("target= column", target, map(str, frame.columns))
    features = frame.drop(columns=target)
    return _inputs(argument, features), _target(argument, frame[target], classes)


def _inputs(argument: str, value: Any) -> Tensor:
    if not is_frame(value):
        return _tensor(argument, value)
    for name, dtype in value.dtypes.items():
        if not (np.issubdtype(np.dtype(dtype), np.number) if _is_numpy(dtype) else False):
            if str(dtype) == "bool":
                continue
            raise InputError(
                f"{argument}: column {name!r} holds {dtype}, no numbers: encode it first, for "
                "example with pandas.get_dummies"
            )
    return _tensor(argument, value.to_numpy(np.float64))


def _is_numpy(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype)


def _target(argument: str, value: Any, classes: dict[Any, int]) -> Tensor:
    """Numbers, or the numbers of the classes."""
    if is_frame(value):
        return _inputs(argument, value)
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "iub":
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype.kind == "f":
        return _tensor(argument, array)
    if not classes:
        classes.update({name: number for number, name in enumerate(sorted(set(array.tolist())))})
    strange = sorted(set(array.tolist()) - set(classes))
    if strange:
        raise InputError(f"{argument} has the class {strange[0]!r}, which train= does not have")
    return torch.tensor([classes[name] for name in array.tolist()])


def _tensor(argument: str, value: Any) -> Tensor:
    """A tensor; arrays of float64 become float32."""
    if isinstance(value, Tensor):
        tensor = value
    else:
        array = np.ascontiguousarray(value)
        if array.dtype.kind not in "fiub":
            raise InputError(f"{argument} holds {array.dtype}, no numbers")
        tensor = torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)
    if tensor.ndim == 0:
        raise InputError(f"{argument} is a single number; its rows must be samples")
    return tensor
