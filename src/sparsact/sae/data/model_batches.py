"""What a model is run on: rows of tokens, or the batches of a DataLoader."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sparsact._common.errors import InputError, unknown
from sparsact.text import Tokens

Positions = Literal["all", "first", "rest"]
"""Which positions of each input count: all, the first (CLS), or all but the first (patches)."""


@dataclass(frozen=True)
class ModelBatch:
    """The inputs of one forward.

    Attributes:
        args: positional inputs.
        kwargs: inputs by name.
        kept: (rows, length) bool, positions that count; None if all do.
        first: index of the first row in the data.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    kept: Tensor | None
    first: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter((*self.args, *self.kwargs.values()))))


def token_shards(
    tokens: Tokens, batch_rows: int, shard_rows: int
) -> Iterator[tuple[int, list[ModelBatch]]]:
    """The rows of tokens in shards: index of the last row, and the forwards of each shard."""
    for start in range(0, len(tokens.ids), shard_rows):
        stop = min(start + shard_rows, len(tokens.ids))
        yield stop, token_batches(tokens, start, stop, batch_rows)


def token_batches(tokens: Tokens, start: int, stop: int, batch_rows: int) -> list[ModelBatch]:
    """The forwards of some rows of tokens."""
    kept = tokens.kept()
    cuts = [(at, min(at + batch_rows, stop)) for at in range(start, stop, batch_rows)]
    return [
        ModelBatch(
            (),
            {"input_ids": tokens.ids[at:end], "attention_mask": tokens.mask[at:end].long()},
            kept[at:end],
            at,
        )
        for at, end in cuts
    ]


def loader_shards(
    loader: Iterable[Any], positions: Positions, shard_rows: int
) -> Iterator[tuple[int, list[ModelBatch]]]:
    """The batches of a loader in shards of at least `shard_rows` rows, except the last."""
    shard: list[ModelBatch] = []
    rows = 0
    for inputs in loader:
        batch = as_model_batch(inputs, positions, rows)
        shard.append(batch)
        rows += batch.rows
        if rows - shard[0].first >= shard_rows:
            yield rows, shard
            shard = []
    if shard:
        yield rows, shard


def as_model_batch(inputs: Any, positions: Positions, first: int) -> ModelBatch:
    """A batch of a loader: a tensor, a dict of inputs by name, or a pair of inputs and labels.

    An ``attention_mask`` (rows, length) among the inputs leaves out padding.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(inputs, (tuple, list)) and inputs:
        inputs = inputs[0]
    if isinstance(inputs, Tensor):
        return ModelBatch((inputs,), {}, None, first)
    if isinstance(inputs, Mapping) and inputs:
        mask = inputs.get("attention_mask")
        kept = None
        if isinstance(mask, Tensor) and mask.ndim == 2:
            kept = chosen_positions(mask.bool(), positions)
        return ModelBatch((), dict(inputs), kept, first)
    raise InputError(
        "each batch of the loader must be a tensor, a dict of inputs, or a pair (inputs, labels), "
        f"got {type(inputs).__name__}"
    )


def chosen_positions(kept: Tensor, positions: Positions) -> Tensor:
    """`kept` (rows, length) without the positions that do not count."""
    if positions not in ("all", "first", "rest"):
        raise unknown("positions", positions, ("all", "first", "rest"))
    if positions == "all":
        return kept
    is_first = torch.arange(kept.shape[1], device=kept.device) == 0
    return kept & (is_first if positions == "first" else ~is_first)


def digest_of(loader: Iterable[Any], positions: Positions) -> str:
    """A digest of the first batch, by which a directory of activations knows its data.

    Raises:
        InputError: there is no batch.
    """
    first = next(iter(loader), None)
    if first is None:
        raise InputError("the loader has no batches")
    batch = as_model_batch(first, positions, 0)
    digest = hashlib.sha256(positions.encode())
    for value in (*batch.args, *batch.kwargs.values()):
        if isinstance(value, Tensor):
            digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().double().cpu().numpy().tobytes())
    return digest.hexdigest()
