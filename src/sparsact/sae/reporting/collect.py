"""Streaming over the activations of a text: how often latents fire, and where most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sparsact.meters.streaming_histogram import SAMPLED_PER_CALL, Histogram, StreamingHistogram
from sparsact.sae.activations import Rows
from sparsact.sae.model import SparseAutoencoder
from sparsact.text import Tokens

BATCH = 2048
"""Inputs that are encoded at a time; more only where a row of tokens is longer."""


class Passages:
    """The activations of a text, in batches that never cut a row of tokens.

    Args:
        rows: the activations, one for each token that counts, in the text's order.
        tokens: the text.

    Attributes:
        ids: (total,) the tokens that count.
        bounds: (total, 2) for each of them, where its row begins and ends among them.

    Raises:
        ValueError: there are not as many activations as tokens.
    """

    def __init__(self, rows: Rows, tokens: Tokens) -> None:
        kept = tokens.kept()
        self.ids = tokens.ids[kept]
        if rows.total != len(self.ids):
            raise ValueError(f"{rows.total} activations are not those of {len(self.ids)} tokens")
        lengths = kept.sum(1)
        ends = lengths.cumsum(0)
        self.bounds = torch.stack([ends - lengths, ends], 1).repeat_interleave(lengths, 0)
        self._rows = rows
        self._starts = _cuts(ends.tolist())

    def batches(self) -> Iterator[tuple[int, Tensor]]:
        """The number of each batch's first token, and the activations (batch, width)."""
        shards = (shard.read().float() for shard in self._rows.shards)
        left = torch.empty(0, self._rows.width)
        for start, stop in pairwise(self._starts):
            while len(left) < stop - start:
                left = torch.cat([left, next(shards)])
            yield start, left[: stop - start]
            left = left[stop - start :]


def _cuts(ends: Sequence[int]) -> list[int]:
    """Where batches begin and end: at the ends of rows, at most BATCH apart where that can be."""
    cuts = [0]
    for end, following in pairwise([*ends, ends[-1] + BATCH + 1]):
        if following - cuts[-1] > BATCH and end > cuts[-1]:
            cuts.append(end)
    return cuts


@torch.no_grad()
def fired_on(sae: SparseAutoencoder, passages: Passages) -> Tensor:
    """(d_sae,) on how many tokens each latent is not zero."""
    fired = torch.zeros(sae.config.d_sae, dtype=torch.long)
    for _, batch in passages.batches():
        fired += (sae.encode(batch) != 0).sum(0)
    return fired


@dataclass(frozen=True)
class Peak:
    """A place where a latent is more active than anywhere near.

    Attributes:
        ids: the tokens around it, within their row.
        activations: on each of them.
        at: which of them it is.
    """

    ids: tuple[int, ...]
    activations: tuple[float, ...]
    at: int

    @property
    def value(self) -> float:
        """The activation at the place itself."""
        return self.activations[self.at]


@dataclass(frozen=True)
class LatentDetails:
    """What one latent does in a text.

    Attributes:
        fired: tokens on which it is not zero.
        total: sum of its activations.
        histogram: of those that are not zero.
        peaks: from the largest magnitude down; none lies in the window of a larger one, and no
            two windows hold the same text.
    """

    fired: int
    total: float
    histogram: Histogram
    peaks: tuple[Peak, ...]


@torch.no_grad()
def describe(
    sae: SparseAutoencoder,
    passages: Passages,
    latents: Sequence[int],
    *,
    peaks: int = 10,
    reach: int = 16,
) -> list[LatentDetails]:
    """Follow some latents through a text; memory grows with their number, not with the text.

    Args:
        sae: in eval mode.
        passages: the text's activations.
        latents: which.
        peaks: places kept of each; at least 1.
        reach: tokens of the window on each side of a peak, within its row.
    """
    followed = [_Latent(peaks) for _ in latents]
    for start, batch in passages.batches():
        codes = sae.encode(batch)[:, list(latents)]
        ids = passages.ids[start : start + len(batch)]
        bounds = passages.bounds[start : start + len(batch)] - start
        found = _peaks(codes.abs(), bounds, peaks, reach)
        for latent, code, places in zip(followed, codes.T, found.T.tolist(), strict=True):
            here = [_peak(ids, code, place, bounds, reach) for place in places if place >= 0]
            latent.update(code, here)
    return [latent.details() for latent in followed]


def _peaks(size: Tensor, bounds: Tensor, count: int, reach: int) -> Tensor:
    """(count, latents) places of the largest entries of each column, −1 where there is none left.

    An entry in the window of a larger one is left out. Nothing is lost by looking at one batch at
    a time: no window leaves its row.
    """
    left, offsets = size.clone(), torch.arange(-reach, reach + 1)
    found = []
    for _ in range(min(count, len(size))):
        largest, place = left.max(0)
        near = (place + offsets[:, None]).clamp(bounds[place, 0], bounds[place, 1] - 1)
        found.append(place.where(largest > 0, -1))
        left.scatter_(0, near, 0)
    return torch.stack(found)


def _peak(ids: Tensor, code: Tensor, place: int, bounds: Tensor, reach: int) -> Peak:
    """The window around a place of a batch."""
    begin, end = bounds[place].tolist()
    first, last = max(place - reach, begin), min(place + reach + 1, end)
    return Peak(tuple(ids[first:last].tolist()), tuple(code[first:last].tolist()), place - first)


class _Latent:
    """One latent on its way through the text."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.fired = 0
        self.total = 0.0
        self.histogram = StreamingHistogram()
        self.peaks: list[Peak] = []

    def update(self, code: Tensor, peaks: list[Peak]) -> None:
        self.fired += int((code != 0).sum())
        self.total += float(code.double().sum())
        for part in code.split(SAMPLED_PER_CALL):  # as much as is counted at a time
            self.histogram.update(part)
        distinct: dict[tuple[int, ...], Peak] = {}
        for peak in sorted([*self.peaks, *peaks], key=lambda peak: -abs(peak.value)):
            distinct.setdefault(peak.ids, peak)
        self.peaks = list(distinct.values())[: self.count]

    def details(self) -> LatentDetails:
        return LatentDetails(self.fired, self.total, self.histogram.compute(), tuple(self.peaks))
