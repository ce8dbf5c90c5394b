"""What a model is run on: rows of tokens, or the batches of a DataLoader."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import RandomSampler

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


@dataclass(frozen=True)
class ModelData:
    """What a model is run on, in shards.

    Attributes:
        digest: by which a directory of activations knows its data.
        total: number of rows, if it is known.
        skip: leading tokens of each row that do not count.
        shards: index after the last row, and the forwards of each shard.
    """

    digest: str
    total: int | None
    skip: int
    shards: Iterator[tuple[int, list[ModelBatch]]]


def model_data(
    data: Tokens | Iterable[Any], positions: Positions, batch_rows: int, shard_rows: int
) -> ModelData:
    """Rows of tokens, or the batches of a loader.

    Raises:
        InputError: no token counts, there is no batch, or the loader shuffles, or can be read only
            once.
    """
    if isinstance(data, Tokens):
        if not bool(data.kept().any()):
            raise InputError("the text has no tokens whose activations count")
        shards = token_shards(data, batch_rows, shard_rows)
        return ModelData(data.fingerprint(), len(data.ids), data.skip, shards)
    if iter(data) is data:
        raise InputError("the data must be readable more than once: pass a DataLoader or a list")
    if isinstance(getattr(data, "sampler", None), RandomSampler):
        raise InputError(
            "the loader shuffles, so an interrupted harvest could not be resumed: pass "
            "shuffle=False (training shuffles the rows)"
        )
    digest = digest_of(data, positions)
    return ModelData(digest, None, 0, loader_shards(data, positions, shard_rows))


def token_shards(
    tokens: Tokens, batch_rows: int, shard_rows: int
) -> Iterator[tuple[int, list[ModelBatch]]]:
    """The rows of tokens in shards: index of the last row, and the forwards of each shard."""
    for start in range(0, len(tokens.ids), shard_rows):
        stop = min(start + shard_rows, len(tokens.ids))
        yield stop, token_batches(tokens, start, stop, batch_rows)


def token_batches(tokens: Tokens, start: int, stop: int, batch_rows: int) -> list[ModelBatch]:
    """The forwards of some rows of tokens."""
    batches = []
    for at in range(start, stop, batch_rows):
        end = min(at + batch_rows, stop)
        part = replace(tokens, ids=tokens.ids[at:end], mask=tokens.mask[at:end])
        inputs = {"input_ids": part.ids, "attention_mask": part.mask.long()}
        batches.append(ModelBatch((), inputs, part.kept(), at))
    return batches


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
