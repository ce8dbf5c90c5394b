"""Estimate the standard deviation of the noise from the finest wavelet coefficients."""

from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsact.denoise.array_kinds import Array, ArrayKind, Numbers
from sparsact.denoise.filtering import is_compiled
from sparsact.denoise.missing_values import fill, missing_values
from sparsact.denoise.transformed_dims import Dims, last_dims
from sparsact.denoise.wavelet_filters import filter_bank
from sparsact.denoise.wavelet_transform import Bands, decompose
from sparsact.kernels.reference.wavelet_denoising_reference import median_above
from sparsact.thresholds.arguments import values_can_be_read

if TYPE_CHECKING:
    import pywt

MEDIAN_OF_NORMAL = NormalDist().inv_cdf(0.75)  # of |z| for a standard normal z
# Noise fills a region: in the 7×7 second differences around one that is not zero, nearly all are
# not zero. Of a drawing or a screenshot they are lines, and fewer than this share is not zero.
DENSE = 0.62
WINDOW = 7
SMALL = 30  # times the width of a border: in smaller bands, coefficients at the border are left out
MANY_ZEROS = 0.2  # share of second differences that are zero, up to which density is not checked


def estimate_sigma(
    x: Numbers,
    wavelet: "str | pywt.Wavelet" = "db2",
    dims: Dims = 2,
    *,
    channel_dim: int | None = None,
    mask: Array | None = None,
) -> Numbers:
    """The noise of each image: ``median(|d|) / Φ⁻¹(¾)`` over its finest diagonal coefficients d.

    Args:
        x: a batch of signals, images or volumes: a tensor, a NumPy array or nested lists, of
            integers or floating point.
        wavelet: name of a discrete wavelet of PyWavelets, or a ``pywt.Wavelet``.
        dims: the transformed dims: a tuple, or their number counted from the last dim.
        channel_dim: dim of the colours; a number of dims does not count it.
        mask: boolean, broadcasts to `x`: False where a value is missing. NaN is missing too.

    Returns:
        a tensor, an array or lists, as `x`, with the dims of `x` that are not transformed, in the
        units of `x`; floating point, in half precision if `x` is. Coefficients that are zero up
        to rounding (constant or saturated regions) are ignored. The noise is 0 if all are zero,
        or if so many are that the others look like lines: a clean drawing or screenshot.

    Gradient:
        exact almost everywhere: the gradient of the coefficients at the median.

    Raises:
        TypeError: `x` holds no real numbers.
        InputError: there is no such wavelet, or `x` is smaller than its filter.

    Example:
        >>> noise = 0.1 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
        >>> estimate_sigma(noise)
        tensor(0.0986)

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81
        (1994), section 4.2.
    """
    kind = ArrayKind(x, "estimate_sigma")
    wide = kind.real()
    missing = missing_values(wide, kind.mask(mask))
    moved, axes = last_dims(wide, dims, channel_dim)
    ndim = len(axes)
    bank = filter_bank(wavelet)
    bank.check_sizes(tuple(moved.shape[-ndim:]))
    share = None
    if missing is not None:
        absent = last_dims(missing, dims, channel_dim)[0]
        moved = fill(moved, absent, ndim)
        share = decompose(absent.to(moved.dtype), bank.box, 1, ndim, stationary=False).details[0]
    bands = decompose(moved, bank, 1, ndim, stationary=False)
    sigma = robust_sigma(bands, 1, has_noise(moved, ndim), None if share is None else share[-1])
    estimate: Numbers = kind.statistic(sigma.flatten(-ndim).squeeze(-1))
    return estimate


def robust_sigma(
    bands: Bands, level: int, noisy: Tensor | None = None, missing: Tensor | None = None
) -> Tensor:
    """The estimate from the diagonal band of one level, with size 1 in the transformed dims.

    A stationary band of a signal gives the mean of the estimates from each shift. For images one
    shift is enough, because the others give nearly the same estimate.

    Args:
        bands: the coefficients.
        level: 1 is the finest.
        noisy: as :func:`has_noise` returns it.
        missing: for each coefficient, the share of its samples that are missing. Coefficients
            without missing samples are used, or if there are few, those with the fewest.
    """
    band, ndim, shifts = bands.details[-level][-1], bands.ndim, bands.shifts(level)
    if missing is not None:
        band = _known(band, missing, ndim)
    if ndim == 1:
        absent = -band.shape[-1] % shifts[0]
        padded = pad(band, (0, absent), value=torch.nan)
        sigma = _median_sigma(padded.unflatten(-1, (-1, shifts[0])).mT, bands).nanmean(-1)
    else:
        for dim, step in zip(range(-ndim, 0), shifts, strict=True):
            part = inside(band.shape[dim], step, bands.bank.length)
            band = band.narrow(dim, part.start, part.stop - part.start)
            band = band.unfold(dim, 1, step).squeeze(-1)
        sigma = _median_sigma(band.flatten(-ndim).unsqueeze(-2), bands).squeeze(-1)
    sigma = sigma.nan_to_num(0.0).reshape(*sigma.shape, *[1] * ndim)
    return sigma if noisy is None else torch.where(noisy, sigma, 0.0)


def inside(size: int, step: int, taps: int) -> slice:
    """The part of a small stationary band that the border does not weaken; all of a large one."""
    first = (taps - 1) * (step - 1)
    first += -first % step
    is_small = 2 * step < size - 2 * first < SMALL * first
    return slice(first, size - first) if is_small else slice(0, size)


def _known(band: Tensor, missing: Tensor, ndim: int) -> Tensor:
    """NaN at all but the coefficients with the fewest missing samples, at least 0.5 % of a block.

    What is kept is scaled for the noise that its missing samples do not have.
    """
    shares = missing.flatten(-ndim)
    enough = max(shares.shape[-1] // 200, min(shares.shape[-1], 20))
    limit = shares.kthvalue(enough, -1).values.reshape(*missing.shape[:-ndim], *[1] * ndim)
    scaled = band / (1 - missing).clamp(min=0.1).sqrt()
    return torch.where(missing <= limit + 1e-3, scaled, torch.nan)


def has_noise(x: Tensor, ndim: int) -> Tensor | None:
    """Whether each block (the last `ndim` dims) can have noise, or None if all can.

    Returns:
        boolean, with size 1 in the transformed dims.
    """
    zero = _zero_differences(x.detach(), ndim)
    batch = zero.shape[: zero.ndim - ndim]
    flat = zero.flatten(-ndim)
    many = flat.sum(-1) > MANY_ZEROS * flat.shape[-1]
    if values_can_be_read(x) and not bool(many.any()):
        return None
    lines = 1 - zero.to(torch.float32)
    density = lines
    for dim in range(-ndim, 0):
        density = _moving_mean(density, dim)
    weighted = (density * lines).flatten(-ndim).sum(-1)
    dense = weighted > DENSE * lines.flatten(-ndim).sum(-1)
    return (dense | ~many).reshape(*batch, *[1] * ndim)


def _zero_differences(x: Tensor, ndim: int) -> Tensor:
    """Whether Haar's diagonal coefficients are zero up to rounding."""
    flat = x.flatten(-ndim)
    largest = torch.maximum(-flat.amin(-1), flat.amax(-1))
    floor = (4 * torch.finfo(x.dtype).eps * largest).reshape(*largest.shape, *[1] * ndim)
    for dim in range(-ndim, 0):
        pairs = x.narrow(dim, 0, x.shape[dim] // 2 * 2).unflatten(dim, (-1, 2))
        x = pairs.select(dim, 0) - pairs.select(dim, 1)
    return x.abs() <= floor


def _moving_mean(x: Tensor, dim: int) -> Tensor:
    """The mean over a window of `WINDOW` samples around each, which is shorter at the ends."""
    half = WINDOW // 2
    sums = x.cumsum(dim)
    zero = torch.zeros_like(sums.narrow(dim, 0, 1))
    sums = torch.cat([zero, sums], dim)
    place = torch.arange(x.shape[dim], device=x.device)
    first, after = (place - half).clamp(min=0), (place + half + 1).clamp(max=x.shape[dim])
    total = sums.index_select(dim, after) - sums.index_select(dim, first)
    count = (after - first).reshape(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
    return total / count


def _median_sigma(band: Tensor, bands: Bands) -> Tensor:
    """The estimate from each row (…, rows, coefficients), without zeros up to rounding."""
    rows = band.reshape(-1, band.shape[-1])
    floor = rounding(bands).flatten(-bands.ndim).expand(band.shape[:-1]).reshape(-1)
    find = torch.ops.sparsact.median_above if is_compiled(band) else median_above
    return (find(rows, floor) / MEDIAN_OF_NORMAL).reshape(band.shape[:-1])


def rounding(bands: Bands) -> Tensor:
    """The largest magnitude that a zero can have after rounding: constant regions are not exact.

    It has size 1 in the transformed dims.
    """
    largest = bands.approximation.detach().abs().flatten(-bands.ndim).amax(-1)
    floor = 4 * torch.finfo(largest.dtype).eps * largest
    return floor.reshape(*largest.shape, *[1] * bands.ndim)
