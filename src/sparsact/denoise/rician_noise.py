"""Rician noise: the magnitude of a complex number with Gaussian noise in both parts (MRI)."""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.noise_estimate import MEDIAN_OF_NORMAL, has_noise, rounding
from sparsact.denoise.stabilised import Stabilised, interpolate
from sparsact.denoise.wavelet_filters import filter_bank
from sparsact.denoise.wavelet_transform import decompose
from sparsact.thresholds.arguments import check_positive, values_can_be_read

END = 20.0  # signal-to-noise ratio up to which the distribution is tabulated
STEP = 0.02
ROUNDS = 8  # of the estimate of σ
MOSTLY_KNOWN = 0.05  # share of missing samples up to which a coefficient is used


@dataclass(frozen=True)
class RicianNoise:
    """``x = |A + σ·(z₁ + i·z₂)|``, as in magnitudes of MRI; the result estimates A.

    The transform f with ``f′(E[x]) = 1/std(x)`` gives noise of standard deviation near 1. After
    denoising, its exact unbiased inverse gives the A whose transformed data have the mean that
    was found.

    Args:
        sigma: σ in the units of the data; None estimates it from them, as the σ for which the
            transformed data have noise 1.

    Raises:
        InputError: `sigma` is not positive.

    Example:
        >>> from sparsact.denoise import denoise_wavelet
        >>> parts = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> magnitude = torch.hypot(2 + parts[0], parts[1])  # A = 2 and σ = 1
        >>> clean = denoise_wavelet(magnitude, noise=RicianNoise(sigma=1.0))
        >>> bool((clean.mean() - 2).abs() < 0.1 < (magnitude.mean() - 2).abs())
        True

    Source:
        Foi, "Noise estimation and removal in MR imaging: the variance-stabilization approach",
        ISBI (2011), with the transform from the numerical distribution.
    """

    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_positive(self.sigma, "sigma")

    def stabilise(self, x: Tensor, missing: Tensor | None, ndim: int) -> Stabilised:
        """The transform of blocks, and its exact unbiased inverse."""
        if values_can_be_read(x) and bool((x < 0).any()):
            raise InputError(f"magnitudes cannot be negative, got {float(x.min()):g}")
        sigma = self.sigma or _fitted_sigma(x.detach(), missing, ndim)
        table = _table()

        def inverse(values: Tensor) -> Tensor:
            far = values - float(table.transformed[-1]) + END
            near = interpolate(values, table.transformed, table.signal)
            return sigma * torch.where(values > float(table.transformed[-1]), far, near)

        return Stabilised(_transform(x / sigma, table), 1.0, inverse)


@dataclass(frozen=True)
class _Table:
    """For signals A in units of σ: E[x], f(E[x]) and E[f(x)]."""

    signal: Tensor
    mean: Tensor
    stable: Tensor
    transformed: Tensor


def _transform(x: Tensor, table: _Table) -> Tensor:
    """F of magnitudes in units of σ; straight beyond both ends of the table."""
    first, last = float(table.mean[0]), float(table.mean[-1])
    low = (x - first) / float(_spread(table.signal[:1]))
    high = x - last + float(table.stable[-1])
    middle = interpolate(x, table.mean, table.stable)
    return torch.where(x < first, low, torch.where(x > last, high, middle))


@functools.cache
def _table() -> _Table:
    signal = torch.arange(0, END + STEP, STEP, dtype=torch.float64)
    mean = _mean(signal)
    slopes = 1 / _spread(signal)
    stable = torch.cat([torch.zeros(1).double(), torch.cumulative_trapezoid(slopes, mean)])
    # E[f(x)] over x = √((A + z₁)² + z₂²), by the midpoint rule in the magnitude
    step = STEP / 2
    magnitude = torch.arange(step / 2, END + 8, step, dtype=torch.float64)
    product = signal[:, None] * magnitude
    chance = magnitude * torch.special.i0e(product)
    chance = chance * torch.exp(-((magnitude - signal[:, None]).square()) / 2) * step
    values = _transform(magnitude, _Table(signal, mean, stable, stable))
    return _Table(signal, mean, stable, chance @ values / chance.sum(1))


def _mean(signal: Tensor) -> Tensor:
    """E[x] = √(π/2)·L½(−A²/2)."""
    quarter = signal.square() / 4
    laguerre = (1 + 2 * quarter) * torch.special.i0e(quarter)
    laguerre = laguerre + 2 * quarter * torch.special.i1e(quarter)
    mean: Tensor = math.sqrt(math.pi / 2) * laguerre
    return mean


def _spread(signal: Tensor) -> Tensor:
    return (2 + signal.square() - _mean(signal).square()).sqrt()


def _fitted_sigma(x: Tensor, missing: Tensor | None, ndim: int) -> float:
    """The σ for which the transformed blocks have noise 1."""
    sigma = _noise(x, missing, ndim)
    if not sigma > 0:
        raise InputError("no noise was found; set sigma=")
    for _ in range(ROUNDS):
        sigma *= _noise(_transform(x / sigma, _table()), missing, ndim)
    return sigma


def _noise(x: Tensor, missing: Tensor | None, ndim: int) -> float:
    """The noise of all blocks together."""
    bank, noisy = filter_bank("db2"), has_noise(x, ndim)
    bands = decompose(x, bank, 1, ndim, stationary=False)
    band = bands.details[0][-1].abs()
    counted = band >= 0
    if noisy is not None:
        counted = noisy & (band > rounding(bands))
    if missing is not None:
        absent = decompose(missing.to(x.dtype), bank.box, 1, ndim, stationary=False)
        counted = counted & (absent.details[0][-1] < MOSTLY_KNOWN)
    band = band[counted]
    return float(band.median()) / MEDIAN_OF_NORMAL if band.numel() else 0.0
