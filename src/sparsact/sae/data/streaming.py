"""Activations that never touch the disk: shards that the model computes when a batch needs them."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.hooks import Site
from sparsact.sae.data.activation_rows import Rows
from sparsact.sae.data.activation_shards import Shard
from sparsact.sae.data.harvesting import read_shard
from sparsact.sae.data.layer_reading import LayerReader, usual_norms
from sparsact.sae.data.model_batches import ModelBatch, token_batches
from sparsact.sae.data.places import Place, find_places
from sparsact.text import Tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

FORWARDS = 8
"""Default of ``stream_layers(shard_forwards=)``."""


def stream_layers(
    model: nn.Module,
    layers: str,
    tokens: Tokens,
    *,
    site: Site = "output",
    max_norm: float | None = None,
    batch_rows: int = 8,
    shard_forwards: int = FORWARDS,
    buffer_rows: int = 262_144,
    accelerator: "Accelerator | None" = None,
) -> dict[str, Rows]:
    """Activations of layers of a model that are computed when they are used, and not stored.

    ``rows.batches`` reads the text in random order, fills its buffer with activations, shuffles
    them, and deals batches. It can start at any batch, without computing those before it. Several
    layers share each forward if their batches are taken in turns.

    Args:
        model: takes ``input_ids`` and ``attention_mask``; put into eval mode, on any device. The
            activations are on the CPU.
        layers: name of a module, a pattern of several, or a hook of TransformerLens.
        tokens: the text. It stays in memory: 9 bytes per token.
        site: ``"output"`` of the modules, or their ``"input"``.
        max_norm: an activation whose norm is above so many medians of its shard is replaced by
            another one of the shard, because the number of rows must be known in advance.
        batch_rows: rows of tokens in a forward.
        shard_forwards: forwards in a shard, which processes share. More of them do not help to
            compute it.
        buffer_rows: that of the batches. So many rows of a layer, and one shard, wait for it
            while another one is ahead. A text of no more rows is read once.
        accelerator: with several processes, each computes its part of every shard. All must take
            the same batches.

    Returns:
        name of the module → its activations, in the order of the text.

    Raises:
        InputError: a ValueError: no such layer; no tokens. While reading: NaN or infinity.

    Example:
        >>> from sparsact.text import pack_tokens
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2))
        >>> model.forward = lambda input_ids, attention_mask: torch.nn.Sequential.forward(
        ...     model, input_ids)
        >>> rows = stream_layers(model, "1", pack_tokens([1, 2, 3, 4, 5, 6, 7, 8], 4))["1"]
        >>> rows.total, next(rows.batches(6)).shape
        (8, torch.Size([6, 2]))
    """
    places = find_places(model, layers, site)
    if not bool(tokens.kept().any()):
        raise InputError("the text has no tokens whose activations count")
    if batch_rows < 1 or shard_forwards < 1:
        raise InputError(
            f"batch_rows= and shard_forwards= must be at least 1, got {batch_rows} and "
            f"{shard_forwards}"
        )
    forwards = batch_rows, shard_forwards
    source = _Source(model, places, tokens, forwards, max_norm, buffer_rows, accelerator)
    widths = source.widths()
    return {
        name: Rows(source.shards(name, widths[name]), widths[name], stored=False) for name in places
    }


def held_out_rows(tokens: Tokens, count: int, seed: int) -> tuple[Tokens, Tokens]:
    """Split rows of tokens: the text to train on, and rows with at least `count` positions.

    The rows are drawn at random by the seed and keep their order. Activations that are never
    stored cannot be drawn one by one without a pass over all of the text.

    Raises:
        InputError: no row would be left to train on.
    """
    counts = tokens.kept().sum(1).tolist()
    order = list(range(len(counts)))
    random.Random(seed).shuffle(order)
    chosen: set[int] = set()
    for row in order:
        if count <= 0:
            break
        chosen.add(row)
        count -= counts[row]
    if count > 0 or not any(counts[row] for row in order if row not in chosen):
        raise InputError("the held-out activations would leave no text to train on: give more text")
    held = torch.tensor([row in chosen for row in range(len(counts))])
    return _part(tokens, ~held), _part(tokens, held)


def _part(tokens: Tokens, rows: Tensor) -> Tokens:
    return replace(tokens, ids=tokens.ids[rows], mask=tokens.mask[rows])


class _Source:
    """Computes shards: some rows of tokens, at all places, each process its part.

    A place takes a shard once. What the others have not taken yet is kept for them. If the buffer
    holds the activations of all of the text, they are kept, and the model reads it once.
    """

    def __init__(
        self,
        model: nn.Module,
        places: Mapping[str, Place],
        tokens: Tokens,
        forwards: tuple[int, int],
        max_norm: float | None,
        buffer_rows: int,
        accelerator: "Accelerator | None",
    ) -> None:
        self.reader = LayerReader(model, places)
        self.tokens, self.max_norm, self.buffer_rows = tokens, max_norm, buffer_rows
        self.batch_rows, in_shard = forwards
        several = accelerator is not None and accelerator.num_processes > 1
        self.accelerator = accelerator if several else None
        self.empty: dict[str, Tensor] = {}
        self.counts: list[int] = tokens.kept().sum(1).tolist()
        self.fits = sum(self.counts) <= buffer_rows
        step = self.batch_rows * in_shard
        self.spans = [
            (at, min(at + step, len(self.counts))) for at in range(0, len(self.counts), step)
        ]
        self._waiting: dict[tuple[int, str], Tensor] = {}  # the oldest come first

    def widths(self) -> dict[str, int]:
        """The width at each place, from one forward."""
        batch = token_batches(self.tokens, 0, 1, 1)[0]
        self.empty = {key: rows[:0] for key, rows in self.reader.read(batch).items()}
        return {key: rows.shape[1] for key, rows in self.empty.items()}

    def shards(self, key: str, width: int) -> list[Shard]:
        """The shards of one place."""
        shards, first = [], 0
        for number, (start, stop) in enumerate(self.spans):
            rows = sum(self.counts[start:stop])
            if rows:
                take = _Take(self, number, key)
                shards.append(Shard(rows, width, take, f"the activations of {key!r}", first))
            first += rows
        return shards

    def take(self, number: int, key: str) -> Tensor:
        """The activations of a shard at one place: those that wait for it, or new ones."""
        take = self._waiting.get if self.fits else self._waiting.pop
        waiting = take((number, key), None)
        if waiting is not None:
            return waiting
        computed = self._computed(number)
        for other, rows in computed.items():
            if other != key or self.fits:
                self._keep(number, other, rows)
        return computed[key]

    def _keep(self, number: int, key: str, rows: Tensor) -> None:
        """Let a shard wait, and drop the oldest ones of its place if there are too many."""
        self._waiting[number, key] = rows
        own = [place for place in self._waiting if place[1] == key]
        waiting = sum(len(self._waiting[place]) for place in own)
        for place in own[:-1]:
            if waiting <= self.buffer_rows:
                return
            waiting -= len(self._waiting.pop(place))

    def _computed(self, number: int) -> dict[str, Tensor]:
        start, stop = self.spans[number]
        if self.accelerator is None:
            found = self._read(start, stop)
        else:
            found = self._joined(start, stop, self.accelerator)
        return {key: _with_usual_norms(rows, self.max_norm) for key, rows in found.items()}

    def _read(self, start: int, stop: int) -> dict[str, Tensor]:
        return read_shard(self.reader, token_batches(self.tokens, start, stop, self.batch_rows))

    def _joined(self, start: int, stop: int, accelerator: "Accelerator") -> dict[str, Tensor]:
        """Each process runs some forwards of the shard, and gets the rows of the others."""
        size, processes = self.batch_rows, accelerator.num_processes
        parts = [(at, min(at + size, stop)) for at in range(start, stop, size)]
        counts = [
            [sum(self.counts[slice(*p)]) for p in parts[r::processes]] for r in range(processes)
        ]
        most = max(sum(own) for own in counts)
        mine = parts[accelerator.process_index :: processes]
        batches = [token_batches(self.tokens, *part, size)[0] for part in mine]
        found = {}
        for key, rows in self._padded(batches, most).items():
            every = accelerator.gather(rows.to(accelerator.device)).cpu().split(most)
            dealt = [iter(x[: sum(own)].split(own)) for x, own in zip(every, counts, strict=True)]
            found[key] = torch.cat([next(dealt[at % processes]) for at in range(len(parts))])
        return found

    def _padded(self, batches: list[ModelBatch], most: int) -> dict[str, Tensor]:
        """The activations of some forwards, or of none, with zeros up to `most` rows."""
        found = {key: none.new_zeros(most, none.shape[1]) for key, none in self.empty.items()}
        if batches:
            for key, rows in read_shard(self.reader, batches).items():
                found[key][: len(rows)] = rows
        return found


class _Take:
    """The `take` of one shard: a range of its rows."""

    def __init__(self, source: _Source, number: int, key: str) -> None:
        self.source, self.number, self.key = source, number, key

    def __call__(self, start: int, stop: int) -> Tensor:
        return self.source.take(self.number, self.key)[start:stop]


def _with_usual_norms(rows: Tensor, max_norm: float | None) -> Tensor:
    """The rows, with those of unusual norm replaced by the others in turn."""
    usual = usual_norms(rows, max_norm)
    if bool(usual.all()):
        return rows
    places = usual.nonzero().flatten()
    replaced = rows.clone()
    count = int((~usual).sum())
    replaced[~usual] = rows[places[torch.arange(count) % len(places)]]
    return replaced
