"""Rules that choose a threshold for each band of noisy coefficients."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparsact._thresholds.arguments import broadcasts_to
from sparsact.denoise.unknown import unknown

FALSE_DISCOVERIES = 0.05  # share q of the kept coefficients that may be noise, for "fdr"

Level = float | Tensor
Given = Level | Sequence[Level | Mapping[str, Level]]


class NoisyBand(NamedTuple):
    """A detail band of each block of a batch.

    Attributes:
        level: 1 is the finest.
        key: as in :class:`sparsact.denoise.transform.Bands`.
        values: (…, one size per dim).
        sigma: noise of these coefficients, (…, 1 per dim).
    """

    level: int
    key: str
    values: Tensor
    sigma: Tensor


def choose(
    threshold: str | Given, bands: Sequence[NoisyBand], samples: int, batch: torch.Size
) -> list[Level]:
    """One threshold per band: a number, or a tensor (…, 1 per dim) that differs in the batch."""
    if isinstance(threshold, str):
        if threshold not in RULES:
            raise unknown("threshold", threshold, RULES)
        return RULES[threshold](bands, samples)
    if isinstance(threshold, (int, float, Tensor)):
        return [_against(threshold, band, batch) for band in bands]
    levels = bands[0].level
    if not isinstance(threshold, Sequence) or len(threshold) != levels:
        found = len(threshold) if isinstance(threshold, Sequence) else type(threshold).__name__
        raise ValueError(
            f"threshold must hold one entry for each of the {levels} levels, coarsest first; "
            f"got {found}"
        )
    return [_against(_entry(threshold, band), band, batch) for band in bands]


def visu(bands: Sequence[NoisyBand], samples: int) -> list[Level]:
    """VisuShrink, ``σ√(2 ln N)`` for N samples: above nearly all noise, with high probability."""
    return [band.sigma * math.sqrt(2 * math.log(samples)) for band in bands]


def bayes(bands: Sequence[NoisyBand], samples: int) -> list[Level]:
    """BayesShrink, ``σ²/√(mean(d²) − σ²)``; the largest ``|d|`` where there is only noise."""
    return [_bayes(band) for band in bands]


def sure(bands: Sequence[NoisyBand], samples: int) -> list[Level]:
    """The hybrid SureShrink: minimises Stein's risk, or is universal where the band is sparse."""
    return [_hybrid_sure(band) for band in bands]


def fdr(bands: Sequence[NoisyBand], samples: int) -> list[Level]:
    """``σ·Φ⁻¹(1 − q·i/2m)``: i of all m coefficients pass the test of Benjamini and Hochberg.

    Per band; q = 0.05 is the expected share of noise among the coefficients that are kept.
    """
    return [_fdr(band) for band in bands]


RULES: dict[str, Callable[[Sequence[NoisyBand], int], list[Level]]] = {
    "bayes": bayes,
    "visu": visu,
    "sure": sure,
    "fdr": fdr,
}


def _bayes(band: NoisyBand) -> Tensor:
    values = _flat(band)
    variance = band.sigma.square()
    # a dot product of each block with itself: no square of the whole band is stored
    power = _unflat(torch.linalg.vecdot(values, values) / values.shape[-1], band)
    excess = power - variance
    signal = excess > 0
    everything = _unflat(values.abs().amax(-1), band)
    return torch.where(signal, variance / torch.where(signal, excess, 1.0).sqrt(), everything)


def _hybrid_sure(band: NoisyBand) -> Tensor:
    ordered = _in_sigmas(band).sort(-1).values
    n = ordered.shape[-1]
    universal = math.sqrt(2 * math.log(n))
    square = ordered.square()
    kept = torch.arange(n - 1, -1, -1, device=ordered.device)  # if λ is entry i of the sorted
    risk = n - 2 * (n - kept) + square.cumsum(-1) + kept * square
    risk = torch.where(ordered <= universal, risk, torch.inf)
    best = ordered.gather(-1, risk.argmin(-1, keepdim=True)).squeeze(-1)
    best = torch.where(risk.amin(-1) < n, best, 0.0)  # λ = 0, which keeps all, has the risk n
    sparse = square.mean(-1) - 1 <= math.log2(n) ** 1.5 / math.sqrt(n)
    return _unflat(torch.where(sparse, universal, best), band) * band.sigma


def _fdr(band: NoisyBand) -> Tensor:
    ordered = _in_sigmas(band).detach().sort(-1).values
    m = ordered.shape[-1]
    rank = torch.arange(m, 0, -1, device=ordered.device, dtype=ordered.dtype)
    p_value = torch.erfc(ordered / math.sqrt(2))
    accepted = torch.where(p_value <= FALSE_DISCOVERIES * rank / m, rank, 1.0).amax(-1)
    tail = FALSE_DISCOVERIES / (2 * m) * accepted
    return -_unflat(torch.special.ndtri(tail), band) * band.sigma


def _flat(band: NoisyBand) -> Tensor:
    """(…, coefficients)."""
    return band.values.flatten(-len(band.key))


def _in_sigmas(band: NoisyBand) -> Tensor:
    """Magnitudes in units of the noise, (…, coefficients)."""
    sigma = band.sigma.flatten(-len(band.key))
    return _flat(band).abs() / torch.where(sigma > 0, sigma, 1.0)


def _unflat(number: Tensor, band: NoisyBand) -> Tensor:
    """One number per block, (…), with a 1 for each of its dims."""
    return number.reshape(*number.shape, *[1] * len(band.key))


def _entry(threshold: Sequence[Level | Mapping[str, Level]], band: NoisyBand) -> Level:
    entry = threshold[len(threshold) - band.level]
    if not isinstance(entry, Mapping):
        return entry
    if band.key not in entry:
        raise ValueError(
            f"threshold has no entry for band {band.key!r} of level {band.level}; "
            f"it holds {sorted(entry)}"
        )
    return entry[band.key]


def _against(level: Level, band: NoisyBand, batch: torch.Size) -> Level:
    if not isinstance(level, Tensor):
        return level
    if not broadcasts_to(level.shape, batch):
        raise ValueError(
            f"threshold of shape {tuple(level.shape)} does not broadcast to the batch's shape "
            f"{tuple(batch)} (the dims that are not transformed)"
        )
    return level.reshape(*level.shape, *[1] * len(band.key))
