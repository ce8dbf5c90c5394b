"""Which latents get a dashboard, and the records of each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparsact.meters import Histogram
from sparsact.report.autoencoder.records import Bars, Context, Latent, LatentGroup
from sparsact.sae.model import SparseAutoencoder
from sparsact.sae.reporting.collect import LatentDetails, Passages, Peak, describe
from sparsact.sae.reporting.pieces import split_pieces

NEIGHBOURS = 6


def choose_latents(
    fired: Tensor, most: int, sample: int, named: Sequence[int], seed: int
) -> dict[str, list[int]]:
    """Title → latents: those named, the most active of the others, and a sample of the rest.

    Args:
        fired: (d_sae,) on how many inputs each latent is not zero; only named ones may be at 0.
        most: how many of the most active.
        sample: how many of the rest, at random.
        named: chosen in any case.
        seed: of the sample.

    Raises:
        ValueError: a number that is no latent.

    Example:
        >>> choose_latents(torch.tensor([0, 3, 9, 1]), 1, 2, [0], seed=0)
        {'Asked for': [0], 'Most active': [2], 'Random sample of the others': [1, 3]}
    """
    wrong = [index for index in named if not 0 <= index < len(fired)]
    if wrong:
        raise ValueError(f"there is no latent {wrong[0]}: they are 0 to {len(fired) - 1}")
    asked = list(dict.fromkeys(named))
    order: list[int] = fired.argsort(descending=True, stable=True)[
        : int((fired > 0).sum())
    ].tolist()
    order = [index for index in order if index not in set(asked)]
    rest = order[most:]
    drawn = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:sample]
    groups = {
        "Asked for": asked,
        "Most active": order[:most],
        "Random sample of the others": sorted(rest[i] for i in drawn.tolist()),
    }
    return {title: latents for title, latents in groups.items() if latents}


def make_groups(
    sae: SparseAutoencoder,
    passages: Passages,
    chosen: dict[str, list[int]],
    tokenizer: Any,
    contexts: int,
) -> tuple[LatentGroup, ...]:
    """The dashboards of chosen latents, by one pass over the text's activations.

    Args:
        sae: in eval mode.
        passages: the text's activations.
        chosen: title → latents.
        tokenizer: of transformers.
        contexts: places of the text that are shown of each.
    """
    indices = [index for latents in chosen.values() for index in latents]
    details = describe(sae, passages, indices, peaks=contexts)
    near = _neighbours(sae.W_dec.detach(), indices)
    records = {
        index: _latent(index, detail, neighbours, len(passages.ids), tokenizer)
        for index, detail, neighbours in zip(indices, details, near, strict=True)
    }
    return tuple(
        LatentGroup(title, tuple(records[index] for index in latents))
        for title, latents in chosen.items()
    )


def _latent(
    index: int,
    details: LatentDetails,
    neighbours: tuple[tuple[int, float], ...],
    inputs: int,
    tokenizer: Any,
) -> Latent:
    fired = details.fired
    strongest = details.peaks[0] if fired else None
    return Latent(
        index=index,
        fired=fired,
        density=fired / inputs,
        mean=details.total / fired if fired else None,
        peak=None if strongest is None else strongest.value,
        histogram=_bars(details.histogram) if fired else None,
        contexts=tuple(_context(peak, tokenizer) for peak in details.peaks),
        neighbours=neighbours,
    )


def _bars(histogram: Histogram) -> Bars:
    """The bins from zero, or the first that counts, to the last that does."""
    counts = histogram.counts
    filled = [i for i, count in enumerate(counts) if count]
    middle = len(counts) // 2
    low, high = min(filled[0], middle), max(filled[-1] + 1, middle)
    return Bars(tuple(histogram.edges[low : high + 1]), counts[low:high])


def _context(peak: Peak, tokenizer: Any) -> Context:
    texts: list[str] = []
    activations: list[float] = []
    first = middle = 0
    for text, length in split_pieces(tokenizer, peak.ids):
        if first <= peak.at < first + length:
            middle = len(texts)
        texts.append(text)
        activations.append(max(peak.activations[first : first + length], key=abs))
        first += length
    return Context(tuple(texts), tuple(activations), middle)


def _neighbours(directions: Tensor, indices: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
    """For each latent those with the largest cosine between decoder directions."""
    unit = torch.nn.functional.normalize(directions.float(), dim=1)
    own = torch.tensor(indices, dtype=torch.long)
    cosine = unit[own] @ unit.T
    cosine.scatter_(1, own[:, None], -2.0)  # below any cosine: not its own neighbour
    found = cosine.topk(min(NEIGHBOURS, len(unit) - 1), dim=1)
    return [
        tuple(zip(nearest, values, strict=True))
        for nearest, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]
