"""Raw data frames of a user: encoded and standardised as the command line does with tables."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.compare.data.recognise_columns import guess_marks, recognise
from sparsact.compare.data.table_encoder import Frame, TableEncoder


@dataclass(frozen=True)
class FrameEncoding:
    """What turns raw frames into inputs of the network; fitted on train=.

    Attributes:
        encoder: makes features.
        mean: of each feature, float64.
        scale: standard deviation of each feature, 1 for a constant one.
    """

    encoder: TableEncoder
    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, frame: Frame) -> "FrameEncoding":
        """Look at the columns of the training part."""
        marks = guess_marks(frame, ",")
        names = [str(name) for name in frame.columns]
        frame = frame.set_axis(names, axis=1)
        columns = [recognise(name, frame[name], marks) for name in names]
        known = [column for column in columns if column is not None]
        typed = frame.assign(**{c.name: c.typed(frame[c.name]) for c in known})
        encoder = TableEncoder(tuple(known)).fit(typed)
        features = torch.from_numpy(encoder.encode(typed))
        spread = features.std(0, correction=0)
        return cls(encoder, features.mean(0), torch.where(spread > 0, spread, 1.0))

    def features(self, frame: Frame) -> Tensor:
        """Inputs of the network (rows, features), float32."""
        features = torch.from_numpy(self.encoder.encode(frame))
        return ((features - self.mean) / self.scale).float()

    def notes(self) -> tuple[str, ...]:
        """What was done to each column."""
        return tuple(f"{names}: {treatment}" for names, treatment in self.encoder.summary())


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame."""
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def encode_frames(
    parts: dict[str, Any], target: str | None
) -> tuple[dict[str, Any], FrameEncoding | None]:
    """Encode the parts, if all are frames and some column is no number or has missing cells.

    Args:
        parts: argument → part; a part is a frame with the column `target`, or a tuple of a frame
            and a target. One that is None stays so.
        target: the column to predict.

    Returns:
        the parts as tuples of features and target, and the encoding; or the parts as they were,
        and None.
    """
    pairs = {name: _pair(part, target) for name, part in parts.items() if part is not None}
    known = {name: pair for name, pair in pairs.items() if pair is not None}
    if len(known) < len(pairs) or not any(_needs_encoding(frame) for frame, _ in known.values()):
        return parts, None
    for name, (_, labels) in known.items():
        if hasattr(labels, "isna") and bool(labels.isna().to_numpy().any()):
            row = int(np.flatnonzero(labels.isna().to_numpy())[0]) + 1
            raise InputError(f"{name} has no target in row {row}")
    encoding = FrameEncoding.fit(next(iter(known.values()))[0])
    encoded: dict[str, Any] = dict.fromkeys(parts)
    for name, (frame, labels) in known.items():
        try:
            encoded[name] = encoding.features(frame), labels
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return encoded, encoding


def for_features(build: Callable[..., nn.Module], count: int) -> Callable[[], nn.Module]:
    """The function that makes the network; one with an argument is given the features."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return build
    takes_count = any(p.default is p.empty and p.kind < p.VAR_POSITIONAL for p in parameters)
    return partial(build, count) if takes_count else build


def _pair(part: Any, target: str | None) -> tuple[Frame, Any] | None:
    """A frame and its target, if a part is that."""
    if is_frame(part) and target is not None and target in part.columns:
        return part.drop(columns=target), part[target]
    if isinstance(part, tuple) and len(part) == 2 and is_frame(part[0]):
        return part
    return None


def _needs_encoding(frame: Frame) -> bool:
    numbers = all(getattr(dtype, "kind", "O") in "biuf" for dtype in frame.dtypes)
    return not numbers or bool(frame.isna().to_numpy().any())
