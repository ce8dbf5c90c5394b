"""How often latents fire in a text, and where most: one pass over the activations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.meters.streaming_histogram import SAMPLED_PER_CALL, Histogram, StreamingHistogram
from sparsact.sae.data.activation_rows import Rows
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.text import Tokens

BATCH = 2048
"""Default of ``Passages(batch=)``."""


class Passages:
    """The activations of a text, in batches that never split a row of tokens.

    Args:
        rows: the activations, one for each token that counts, in the order of the text.
        tokens: the text.
        batch: largest number of inputs that are encoded at a time; exceeded only by a row of
            tokens that is longer.

    Attributes:
        ids: (total,), the tokens that count.
        bounds: (total, 2), start and end of each token's row in `ids`.

    Raises:
        InputError: a ValueError: the numbers of activations and of tokens differ.
    """

    def __init__(self, rows: Rows, tokens: Tokens, batch: int = BATCH) -> None:
        kept = tokens.kept()
        self.ids = tokens.ids[kept]
        if rows.total != len(self.ids):
            raise InputError(f"{rows.total} activations do not fit {len(self.ids)} tokens")
        lengths = kept.sum(1)
        ends = lengths.cumsum(0)
        self.bounds = torch.stack([ends - lengths, ends], 1).repeat_interleave(lengths, 0)
        self._rows = rows
        self._starts = _cuts(ends.tolist(), batch)

    def batches(self) -> Iterator[tuple[int, Tensor]]:
        """The index of each batch's first token, and the activations (batch, width)."""
        shards = (shard.read().float() for shard in self._rows.shards)
        left = torch.empty(0, self._rows.width)
        for start, stop in pairwise(self._starts):
            while len(left) < stop - start:
                left = torch.cat([left, next(shards)])
            yield start, left[: stop - start]
            left = left[stop - start :]


def _cuts(ends: Sequence[int], batch: int) -> list[int]:
    """Where batches begin and end: at ends of rows, at most `batch` apart if possible."""
    cuts = [0]
    for end, following in pairwise([*ends, ends[-1] + batch + 1]):
        if following - cuts[-1] > batch and end > cuts[-1]:
            cuts.append(end)
    return cuts


@torch.no_grad()
def fired_on(sae: SparseAutoencoder, passages: Passages) -> Tensor:
    """(d_sae,): the number of tokens on which each latent is active."""
    fired = torch.zeros(sae.config.d_sae, dtype=torch.long)
    for _, batch in passages.batches():
        fired += (sae.encode(batch) != 0).sum(0)
    return fired


@dataclass(frozen=True)
class Peak:
    """A token where a latent is more active than on any token nearby.

    Attributes:
        ids: the tokens around it, within their row.
        activations: the latent's activation on each of them.
        at: index of the peak among them.
    """

    ids: tuple[int, ...]
    activations: tuple[float, ...]
    at: int

    @property
    def value(self) -> float:
        """The activation at the peak."""
        return self.activations[self.at]


@dataclass(frozen=True)
class LatentDetails:
    """The statistics of one latent in a text.

    Attributes:
        fired: number of tokens on which it is active.
        total: sum of its activations.
        histogram: histogram of the activations that are not zero.
        peaks: by decreasing magnitude. None lies in the window of a larger one, and no two
            windows hold the same text.
        sample: places drawn at random from those where it is active, by decreasing magnitude.
    """

    fired: int
    total: float
    histogram: Histogram
    peaks: tuple[Peak, ...]
    sample: tuple[Peak, ...] = ()

    def at_quantiles(self, quantiles: Sequence[float]) -> tuple[Peak, ...]:
        """The places of the sample at some quantiles of magnitude; without repeats."""
        last = len(self.sample) - 1
        places = dict.fromkeys(round((1 - quantile) * last) for quantile in quantiles)
        return tuple(self.sample[place] for place in places) if self.sample else ()


@torch.no_grad()
def describe(
    sae: SparseAutoencoder,
    passages: Passages,
    latents: Sequence[int],
    *,
    peaks: int = 10,
    reach: int = 16,
    sample: int = 0,
    seed: int = 0,
) -> list[LatentDetails]:
    """Collect statistics of some latents. Memory grows with their number, not with the text.

    Args:
        sae: in eval mode.
        passages: the activations of the text.
        latents: their indices.
        peaks: number of peaks kept for each latent; at least 1.
        reach: tokens in the window on each side of a peak, within its row.
        sample: number of places drawn at random for each latent from those where it is active.
            Their windows are half as long.
        seed: seed of that draw.
    """
    statistics = [_Latent(peaks, sample) for _ in latents]
    generator = torch.Generator().manual_seed(seed)
    for start, batch in passages.batches():
        codes = sae.encode(batch)[:, list(latents)]
        ids = passages.ids[start : start + len(batch)]
        bounds = passages.bounds[start : start + len(batch)] - start
        places = _peaks(codes.abs(), bounds, peaks, reach)
        keys = torch.rand(codes.shape, generator=generator).masked_fill(codes == 0, 2.0)
        for at, latent in enumerate(statistics):
            code = codes[:, at]
            own = [place for place in places[:, at].tolist() if place >= 0]
            latent.update(code, [_peak(ids, code, place, bounds, reach) for place in own])
            drawn = latent.drawn(keys[:, at])
            latent.add([(k, _peak(ids, code, place, bounds, reach // 2)) for k, place in drawn])
    return [latent.details() for latent in statistics]


def _peaks(size: Tensor, bounds: Tensor, count: int, reach: int) -> Tensor:
    """(count, latents): places of the largest entries of each column, −1 if there are no more.

    An entry in the window of a larger one is left out. Windows do not leave their row, so batches
    can be searched one at a time.
    """
    left, offsets = size.clone(), torch.arange(-reach, reach + 1)
    places = []
    for _ in range(min(count, len(size))):
        largest, place = left.max(0)
        near = (place + offsets[:, None]).clamp(bounds[place, 0], bounds[place, 1] - 1)
        places.append(place.where(largest > 0, -1))
        left.scatter_(0, near, 0)
    return torch.stack(places)


def _peak(ids: Tensor, code: Tensor, place: int, bounds: Tensor, reach: int) -> Peak:
    """The window around a place in a batch."""
    begin, end = bounds[place].tolist()
    first, last = max(place - reach, begin), min(place + reach + 1, end)
    return Peak(tuple(ids[first:last].tolist()), tuple(code[first:last].tolist()), place - first)


class _Latent:
    """Running statistics of one latent."""

    def __init__(self, count: int, sample: int) -> None:
        self.count, self.sample = count, sample
        self.places: list[tuple[float, Peak]] = []
        self.fired = 0
        self.total = 0.0
        self.histogram = StreamingHistogram()
        self.peaks: list[Peak] = []

    def update(self, code: Tensor, peaks: list[Peak]) -> None:
        self.fired += int((code != 0).sum())
        self.total += float(code.double().sum())
        for part in code.split(SAMPLED_PER_CALL):  # the histogram samples longer calls
            self.histogram.update(part)
        distinct: dict[tuple[int, ...], Peak] = {}
        for peak in sorted([*self.peaks, *peaks], key=lambda peak: -abs(peak.value)):
            distinct.setdefault(peak.ids, peak)
        self.peaks = list(distinct.values())[: self.count]

    def drawn(self, keys: Tensor) -> list[tuple[float, int]]:
        """Key and place of those whose random keys are small enough for the sample."""
        limit = self.places[-1][0] if len(self.places) == self.sample and self.places else 1.0
        least = keys.topk(min(self.sample, len(keys)), largest=False)
        pairs = zip(least.values.tolist(), least.indices.tolist(), strict=True)
        return [(key, place) for key, place in pairs if key < limit]

    def add(self, places: list[tuple[float, Peak]]) -> None:
        ranked = sorted([*self.places, *places], key=lambda place: place[0])
        self.places = ranked[: self.sample]

    def details(self) -> LatentDetails:
        sample = sorted((peak for _, peak in self.places), key=lambda peak: -abs(peak.value))
        return LatentDetails(
            self.fired, self.total, self.histogram.compute(), tuple(self.peaks), tuple(sample)
        )
