"""Estimate the standard deviation of the noise from the finest wavelet coefficients."""

from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsact.denoise.filtering import is_compiled
from sparsact.denoise.transformed_dims import Dims, last_dims
from sparsact.denoise.wavelet_filters import filter_bank
from sparsact.denoise.wavelet_transform import Bands, decompose
from sparsact.kernels.reference.wavelet_denoising_reference import median_above
from sparsact.thresholds.arguments import check_input, widen

if TYPE_CHECKING:
    import pywt

MEDIAN_OF_NORMAL = NormalDist().inv_cdf(0.75)  # of |z| for a standard normal z


def estimate_sigma(
    x: Tensor,
    wavelet: "str | pywt.Wavelet" = "db2",
    dims: Dims = 2,
    *,
    channel_dim: int | None = None,
) -> Tensor:
    """The noise of each image: ``median(|d|) / Φ⁻¹(¾)`` over its finest diagonal coefficients d.

    Args:
        x: a batch of signals, images or volumes, floating point.
        wavelet: name of a discrete wavelet of PyWavelets, or a ``pywt.Wavelet``.
        dims: the transformed dims: a tuple, or their number counted from the last dim.
        channel_dim: dim of the colours; a number of dims does not count it.

    Returns:
        a tensor with the dims of `x` that are not transformed, in the units of `x`. Coefficients
        that are zero up to rounding (masked or saturated regions) are ignored; if all are, the
        noise is 0.

    Gradient:
        exact almost everywhere: the gradient of the coefficients at the median.

    Raises:
        TypeError: `x` is not floating point.
        InputError: there is no such wavelet, or `x` is smaller than its filter.

    Example:
        >>> noise = 0.1 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
        >>> estimate_sigma(noise)
        tensor(0.0986)

    Source:
        Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81
        (1994), section 4.2.
    """
    check_input(x, "estimate_sigma")
    moved, axes = last_dims(x, dims, channel_dim)
    bank = filter_bank(wavelet)
    bank.check_sizes(tuple(moved.shape[-len(axes) :]))
    bands = decompose(widen(moved), bank, 1, len(axes), stationary=False)
    sigma = robust_sigma(bands, 1)
    return sigma.flatten(-len(axes)).squeeze(-1).to(x.dtype)


def robust_sigma(bands: Bands, level: int) -> Tensor:
    """The estimate from the diagonal band of one level, with size 1 in the transformed dims.

    A stationary band of a signal gives the mean of the estimates from each shift. For images one
    shift is enough, because the others give nearly the same estimate.
    """
    band, ndim = bands.details[-level][-1], bands.ndim
    shifts = 2**level if bands.stationary else 1
    if ndim == 1:
        missing = -band.shape[-1] % shifts
        padded = torch.nn.functional.pad(band, (0, missing), value=torch.nan)
        sigma = _median_sigma(padded.unflatten(-1, (-1, shifts)).mT, bands).mean(-1)
    else:
        for dim in range(-ndim, 0):
            band = band.unfold(dim, 1, shifts).squeeze(-1)
        sigma = _median_sigma(band.flatten(-ndim).unsqueeze(-2), bands).squeeze(-1)
    return sigma.reshape(*sigma.shape, *[1] * ndim)


def _median_sigma(band: Tensor, bands: Bands) -> Tensor:
    """The estimate from each row (…, rows, coefficients), without zeros up to rounding."""
    rows = band.reshape(-1, band.shape[-1])
    floor = _rounding(bands).expand(band.shape[:-1]).reshape(-1)
    find = torch.ops.sparsact.median_above if is_compiled(band) else median_above
    return (find(rows, floor) / MEDIAN_OF_NORMAL).nan_to_num(0.0).reshape(band.shape[:-1])


def _rounding(bands: Bands) -> Tensor:
    """The largest magnitude that a zero can have after rounding: constant regions are not exact."""
    largest = bands.approximation.detach().abs().flatten(-bands.ndim).amax(-1, keepdim=True)
    return 4 * torch.finfo(largest.dtype).eps * largest
