"""Whether what was removed is noise: its power at each frequency, against that of white noise."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

BANDS = 12
FALSE_ALARMS = 0.01  # the share of images with white noise alone that have a band above its limit
MAD_VARIANCE = 1.36  # of the estimated σ, in units of σ² per coefficient
BORDER = 4  # samples of each dim without which σ may be estimated
FEW = 8  # frequencies of a band, below which it is joined with the next one


@dataclass(frozen=True)
class RemovedNoise:
    """The power of what was removed, relative to that of the noise.

    Attributes:
        frequencies: the middle of each band, in cycles per sample.
        power: in each band; 1 is that of white noise.
        limits: the power above which a band holds more than noise.
    """

    frequencies: list[float]
    power: list[float]
    limits: list[float]

    @property
    def excess(self) -> float | None:
        """The lowest frequency at which more than noise was removed, or None."""
        bands = zip(self.frequencies, self.power, self.limits, strict=True)
        return next((at for at, power, limit in bands if power > limit), None)


def removed_noise(
    removed: Tensor, sigma: float, ndim: int, estimated: bool, tests: int = 1
) -> RemovedNoise:
    """The power of removed samples at each frequency.

    A denoiser keeps a part of the noise, so that less power than that of the noise is expected.
    More power in a band comes from structure. If the noise is white and Gaussian, and nothing
    else is removed, the share of images with a band above its limit is at most 1 %.

    Args:
        removed: the noisy samples minus the denoised ones (…, one size per dim).
        sigma: the standard deviation of the noise, above 0.
        ndim: the number of dims of a block; all blocks together are tested.
        estimated: whether σ was estimated from the same samples.
        tests: how many such tests share the 1 % of false alarms.

    Returns:
        bands from frequency 0 to the corner of the spectrum.
    """
    x = removed.double()
    sizes, dims = x.shape[-ndim:], tuple(range(-ndim, 0))
    transformed = torch.fft.rfftn(x - x.mean(dims, keepdim=True), dim=dims)
    power = transformed.abs().square() / math.prod(sizes) / sigma**2
    power = power.reshape(-1, *power.shape[-ndim:]).sum(0)
    blocks = x.numel() // math.prod(sizes)
    place, weight = _places(sizes)
    sums = torch.zeros(BANDS, dtype=torch.float64)
    counts = sums.clone()
    sums.scatter_add_(0, place.flatten(), (power * weight).flatten())
    counts.scatter_add_(0, place.flatten(), blocks * weight.flatten())
    used = (max(1, (size - BORDER) // 2) for size in sizes)
    coefficients = blocks * math.prod(used)
    z = NormalDist().inv_cdf(1 - FALSE_ALARMS / BANDS / tests)
    return _bands(sums, counts, z, MAD_VARIANCE / coefficients if estimated else 0.0, ndim)


def _places(sizes: torch.Size) -> tuple[Tensor, Tensor]:
    """The band of each frequency, and how many independent numbers stand for it."""
    ndim = len(sizes)
    axes = [torch.fft.fftfreq(size, dtype=torch.float64) for size in sizes[:-1]]
    axes.append(torch.fft.rfftfreq(sizes[-1], dtype=torch.float64))
    grid = torch.meshgrid(*axes, indexing="ij")
    radius = torch.stack(grid).square().sum(0).sqrt()
    place = (radius / (0.5 * ndim**0.5) * BANDS).long().clamp(max=BANDS - 1)
    weight = torch.ones_like(radius)
    weight[..., 0] = 0.5  # the other half of this plane repeats it
    if sizes[-1] % 2 == 0:
        weight[..., -1] = 0.5
    weight[(0,) * ndim] = 0.0  # the mean
    return place, weight


def _bands(
    sums: Tensor, counts: Tensor, z: float, sigma_variance: float, ndim: int
) -> RemovedNoise:
    width = 0.5 * ndim**0.5 / BANDS
    frequencies, power, limits = [], [], []
    total = count = start = 0.0
    for band in range(BANDS):
        total, count = total + float(sums[band]), count + float(counts[band])
        if count < FEW and band < BANDS - 1:
            continue
        if count > 0:
            frequencies.append((start + (band + 1) * width) / 2)
            power.append(total / count)
            limits.append(_limit(count, z) * (1 + z * 2 * math.sqrt(sigma_variance)))
        total, count, start = 0.0, 0.0, (band + 1) * width
    return RemovedNoise(frequencies, power, limits)


def _limit(count: float, z: float) -> float:
    """The quantile of the mean of `count` exponential numbers (Wilson and Hilferty)."""
    return (1 - 1 / (9 * count) + z / (3 * math.sqrt(count))) ** 3
