"""The choice of latents for dashboards, and the records of each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.meters import Histogram
from sparsact.report.autoencoder.autoencoder_records import Bars, Context, Latent, LatentGroup
from sparsact.sae.evaluation.dictionary_match import DictionaryMatch
from sparsact.sae.reporting.latent_statistics import LatentDetails, Passages, Peak, describe
from sparsact.sae.reporting.logit_lens import TokenLogits
from sparsact.sae.reporting.token_pieces import split_pieces
from sparsact.sae.sae_model import SparseAutoencoder

NEIGHBOURS = 6

SAMPLE = 64
"""Places of each latent that are drawn at random, for examples at quantiles."""


def choose_latents(
    fired: Tensor, most: int, sample: int, named: Sequence[int], seed: int
) -> dict[str, list[int]]:
    """Title → latents: the named ones, the most active of the others, and a sample of the rest.

    Args:
        fired: (d_sae,), number of inputs on which each latent is active. Latents that never fire
            are chosen only by name.
        most: number of the most active latents.
        sample: number of others, drawn at random.
        named: latents that are always chosen.
        seed: seed of the sample.

    Raises:
        InputError: a ValueError: there is no latent with such an index.

    Example:
        >>> choose_latents(torch.tensor([0, 3, 9, 1]), 1, 2, [0], seed=0)
        {'Chosen by index': [0], 'Most active': [2], 'Random sample of the others': [1, 3]}
    """
    wrong = [index for index in named if not 0 <= index < len(fired)]
    if wrong:
        raise InputError(f"there is no latent {wrong[0]}: they are 0 to {len(fired) - 1}")
    chosen = list(dict.fromkeys(named))
    order: list[int] = fired.argsort(descending=True, stable=True)[
        : int((fired > 0).sum())
    ].tolist()
    order = [index for index in order if index not in set(chosen)]
    rest = order[most:]
    drawn = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:sample]
    groups = {
        "Chosen by index": chosen,
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
    *,
    lens: Mapping[int, tuple[TokenLogits, TokenLogits]] | None = None,
    match: DictionaryMatch | None = None,
    quantiles: Sequence[float] = (),
    seed: int = 0,
) -> tuple[LatentGroup, ...]:
    """The dashboards of chosen latents, from one pass over the activations of a text.

    Args:
        sae: in eval mode.
        passages: the activations of the text.
        chosen: title → latents.
        tokenizer: from transformers.
        contexts: number of passages shown for each latent.
        lens: latent → the tokens that it promotes and suppresses.
        match: with another autoencoder.
        quantiles: of the activations that are not zero, at which a passage is shown.
        seed: seed of the places among which those are found.
    """
    indices = [index for latents in chosen.values() for index in latents]
    sample = SAMPLE if quantiles else 0
    details = describe(sae, passages, indices, peaks=contexts, sample=sample, seed=seed)
    neighbours_of = _neighbours(sae.W_dec.detach(), indices)
    records = {
        index: replace(
            _latent(index, detail, neighbours, len(passages.ids), tokenizer),
            quantiles=tuple(_context(peak, tokenizer) for peak in detail.at_quantiles(quantiles)),
            promoted=() if lens is None else lens[index][0],
            suppressed=() if lens is None else lens[index][1],
            counterpart=None if match is None else _counterpart(match, index),
        )
        for index, detail, neighbours in zip(indices, details, neighbours_of, strict=True)
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


def _counterpart(match: DictionaryMatch, index: int) -> tuple[int, float]:
    return int(match.nearest[index]), float(match.cosine[index])


def _bars(histogram: Histogram) -> Bars:
    """The filled bins, extended to zero."""
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
    """For each latent the others with the largest cosine between decoder directions."""
    unit = torch.nn.functional.normalize(directions.float(), dim=1)
    own = torch.tensor(indices, dtype=torch.long)
    cosine = unit[own] @ unit.T
    cosine.scatter_(
        1, own[:, None], -2.0
    )  # below any cosine, so that no latent is its own neighbour
    nearest = cosine.topk(min(NEIGHBOURS, len(unit) - 1), dim=1)
    return [
        tuple(zip(others, cosines, strict=True))
        for others, cosines in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
    ]
