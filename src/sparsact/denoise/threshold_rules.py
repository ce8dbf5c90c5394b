"""Rules that choose a threshold for each band of noisy coefficients."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsact._common.errors import InputError, unknown
from sparsact.denoise.wavelet_transform import keys
from sparsact.thresholds.arguments import broadcasts_to

FALSE_DISCOVERIES = 0.05  # share q of the kept coefficients that may be noise, for "fdr"
# coefficients on either side from which a variance is estimated: number, or share of the shift
ALIKE = 50
ALIKE_SHARE = 0.02

Level = float | Tensor
Given = Level | list[Level | Mapping[str, Level]] | tuple[Level | Mapping[str, Level], ...]


class NoisyLevel(NamedTuple):
    """The detail bands of one level, of each block of a batch.

    Attributes:
        values: (bands, …, one size per dim).
        sigma: noise of these coefficients, (…, 1 per dim), or of each, like `values`.
        ndim: number of dims of a block.
        shifts: of a signal, the number of shifts whose coefficients alternate; 1 if decimated.
        averaged: whether the result is a mean over shifts.
        names: of the bands, if a dim is not split.
        counted: which coefficients the rules count, like `values`; None: all. The others depend
            on missing samples, or lie in a region without noise.
    """

    values: Tensor
    sigma: Tensor
    ndim: int
    shifts: int = 1
    averaged: bool = False
    names: list[str] | None = None
    counted: Tensor | None = None


def choose(
    threshold: str | Given, levels: Sequence[NoisyLevel], samples: int, batch: torch.Size
) -> list[Level]:
    """The thresholds of each level: a number, or a tensor that broadcasts to its values.

    Args:
        threshold: a rule or λ, as in `denoise_wavelet`.
        levels: coarsest first.
        samples: number of samples of one block before the transform.
        batch: the shape of the batch.
    """
    if isinstance(threshold, str):
        if threshold not in RULES:
            raise unknown("threshold", threshold, RULES)
        return [RULES[threshold](level, samples) for level in levels]
    ndim = levels[0].ndim
    if isinstance(threshold, (int, float, Tensor)):
        return [_against(threshold, ndim, batch)] * len(levels)
    if not isinstance(threshold, (list, tuple)):
        raise TypeError(
            "threshold= must be a rule, a number, a tensor or a list of them, "
            f"got {type(threshold).__name__}"
        )
    if len(threshold) != len(levels):
        raise InputError(
            f"threshold= must have one entry for each of the {len(levels)} levels, coarsest "
            f"first; got {len(threshold)}"
        )
    return [_entry(entry, level, batch) for entry, level in zip(threshold, levels, strict=True)]


def visu(level: NoisyLevel, samples: int) -> Tensor:
    """VisuShrink, ``σ√(2 ln N)`` for N samples: above nearly all noise, with high probability."""
    return level.sigma * math.sqrt(2 * math.log(samples))


def bayes(level: NoisyLevel, samples: int) -> Tensor:
    """BayesShrink, ``σ²/√(mean(d²) − σ²)``; ``‖d‖``, which is above all d, if only noise is there.

    The mean is over a band. For a signal that is averaged over shifts, each coefficient has its
    own threshold: the mean is over the coefficients of the same shift with similar neighbours.
    """
    norm = _unflat(torch.linalg.vector_norm(_flat(level), dim=-1), level)
    variance = typical = level.sigma.square()
    if level.ndim == 1 and level.averaged:
        mean = _mean_square_of_alike(level)
    else:
        mean = _mean_square(level, norm)
        typical = variance.mean(tuple(range(-level.ndim, 0)), keepdim=True)
    return bayes_threshold(variance, mean - typical, norm)


def bayes_threshold(variance: Tensor, excess: Tensor, norm: Tensor) -> Tensor:
    """``σ²/√excess`` for the variance that a band has beyond its noise; `norm` if it has none."""
    signal = excess > 0
    return torch.where(signal, variance / torch.where(signal, excess, 1.0).sqrt(), norm)


def _mean_square(level: NoisyLevel, norm: Tensor) -> Tensor:
    """The mean of d² over the coefficients of each band that count."""
    if level.counted is None:
        return norm.square() / _flat(level).shape[-1]
    squares = torch.where(level.counted, level.values, 0.0).square()
    return _unflat(squares.flatten(-level.ndim).sum(-1) / _count(level), level)


def _count(level: NoisyLevel) -> Tensor:
    """How many coefficients of each band count, at least 1: (bands, …), or a number's tensor."""
    if level.counted is None:
        return torch.full((), _flat(level).shape[-1], device=level.values.device)
    counted = level.counted.expand_as(level.values)
    return counted.flatten(-level.ndim).sum(-1).clamp(min=1)


def _mean_square_of_alike(level: NoisyLevel) -> Tensor:
    """For each coefficient of a signal: the mean of d² over itself and `ALIKE` on either side.

    The sides are those in an order: the coefficients of a shift are sorted by the mean magnitude
    of their two neighbours. A shift of at most 51 coefficients has one mean.

    Source:
        after Chang, Yu & Vetterli, "Spatially adaptive wavelet thresholding with context modeling
        for image denoising", IEEE TIP 9 (2000), part II of BayesShrink; the context here is the
        mean of a coefficient's two neighbours.
    """
    size, shifts = level.values.shape[-1], level.shifts
    known = level.values
    if level.counted is not None:
        known = torch.where(level.counted, known, torch.nan)
    padded = pad(known, (0, -size % shifts), value=torch.nan)
    values = padded.unflatten(-1, (-1, shifts)).mT  # (…, shifts, coefficients)
    missing = values.isnan()  # the last shifts have one coefficient less
    sides = pad(values.detach().abs(), (1, 1), value=torch.nan)
    context = torch.stack([sides[..., :-2], sides[..., 2:]]).nanmean(0)
    order = context.masked_fill(missing, torch.inf).argsort(-1)

    count = values.shape[-1]
    reach = max(ALIKE, int(ALIKE_SHARE * count))
    place = torch.arange(count, device=values.device)
    first, after = (place - reach).clamp(min=0), (place + reach + 1).clamp(max=count)

    def windows(values: Tensor) -> Tensor:
        # in ascending order, so that differences of the sums are accurate in float32 too
        sums = pad(values.gather(-1, order).cumsum(-1), (1, 0))
        return sums[..., after] - sums[..., first]

    square = values.masked_fill(missing, 0.0).square()
    mean = windows(square) / windows((~missing).to(square.dtype)).clamp(min=1)
    return mean.gather(-1, order.argsort(-1)).mT.flatten(-2)[..., :size]


def sure(level: NoisyLevel, samples: int) -> Tensor:
    """Hybrid SureShrink: the minimiser of Stein's risk, or the universal λ for a sparse band."""
    ordered = _in_sigmas(level).sort(-1).values  # those that do not count are zeros, the first
    size = ordered.shape[-1]
    n = _count(level).to(ordered.dtype).unsqueeze(-1)
    universal = (2 * n.log()).sqrt()
    square = ordered.square()
    kept = torch.arange(size - 1, -1, -1, device=ordered.device)  # number of kept if λ is entry i
    risk = n - 2 * (n - kept) + square.cumsum(-1) + kept * square
    risk = torch.where(ordered <= universal, risk, torch.inf)
    best = ordered.gather(-1, risk.argmin(-1, keepdim=True)).squeeze(-1)
    n, universal = n.squeeze(-1), universal.squeeze(-1)
    best = torch.where(risk.amin(-1) < n, best, 0.0)  # λ = 0 keeps all and has the risk n
    sparse = square.sum(-1) / n - 1 <= n.log2() ** 1.5 / n.sqrt()
    return _unflat(torch.where(sparse, universal, best), level) * level.sigma


def fdr(level: NoisyLevel, samples: int) -> Tensor:
    """``σ·Φ⁻¹(1 − q·i/2m)``, where i of m coefficients pass Benjamini and Hochberg's test.

    It is applied per band; q = 0.05 is the expected share of noise among the kept coefficients.
    """
    ordered = _in_sigmas(level).detach().sort(-1).values
    m = _count(level).to(ordered.dtype).unsqueeze(-1)
    rank = torch.arange(ordered.shape[-1], 0, -1, device=ordered.device, dtype=ordered.dtype)
    p_value = torch.erfc(ordered / math.sqrt(2))
    accepted = torch.where(p_value <= FALSE_DISCOVERIES * rank / m, rank, 1.0).amax(-1)
    tail = FALSE_DISCOVERIES / (2 * m.squeeze(-1)) * accepted
    return -_unflat(torch.special.ndtri(tail), level) * level.sigma


RULES: dict[str, Callable[[NoisyLevel, int], Tensor]] = {
    "bayes": bayes,
    "visu": visu,
    "sure": sure,
    "fdr": fdr,
}


def _flat(level: NoisyLevel) -> Tensor:
    """The values as (bands, …, coefficients)."""
    return level.values.flatten(-level.ndim)


def _in_sigmas(level: NoisyLevel) -> Tensor:
    """Magnitudes in units of the noise, (bands, …, coefficients); 0 where one does not count."""
    sigma = level.sigma.flatten(-level.ndim)
    sizes = _flat(level).abs() / torch.where(sigma > 0, sigma, 1.0)
    if level.counted is None:
        return sizes
    return torch.where(level.counted.flatten(-level.ndim), sizes, 0.0)


def _unflat(statistic: Tensor, level: NoisyLevel) -> Tensor:
    """A statistic of each band and block, (bands, …), with a 1 for each dim of a block."""
    return statistic.reshape(*statistic.shape, *[1] * level.ndim)


def _entry(entry: Level | Mapping[str, Level], noisy: NoisyLevel, batch: torch.Size) -> Level:
    """The thresholds of one level: one for all bands, or one per band."""
    ndim, like = noisy.ndim, noisy.values
    if not isinstance(entry, Mapping):
        return _against(entry, ndim, batch)
    names = noisy.names or keys(ndim)
    if sorted(entry) != sorted(names):
        raise InputError(
            f"threshold= by band must have the bands {sorted(names)}, got {sorted(entry)}"
        )
    by_band = []
    for key in names:
        level = torch.as_tensor(entry[key], dtype=like.dtype, device=like.device)
        by_band.append(_for_blocks(level, ndim, batch).expand(*batch, *[1] * ndim))
    return torch.stack(by_band)


def _against(level: Level, ndim: int, batch: torch.Size) -> Level:
    return _for_blocks(level, ndim, batch) if isinstance(level, Tensor) else level


def _for_blocks(level: Tensor, ndim: int, batch: torch.Size) -> Tensor:
    if not broadcasts_to(level.shape, batch):
        raise InputError(
            f"threshold= of shape {tuple(level.shape)} does not broadcast to the batch's shape "
            f"{tuple(batch)} (the dims that are not transformed)"
        )
    return level.reshape(*level.shape, *[1] * ndim)
