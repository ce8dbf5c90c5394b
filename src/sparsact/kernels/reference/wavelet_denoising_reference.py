"""A filter bank along one dim and the median of large entries, in plain torch."""

import torch
from torch import Tensor


def filter_mirrored(
    x: Tensor,
    low: list[float],
    high: list[float],
    stride: int,
    dilation: int,
    left: int,
    coefficients: int,
) -> Tensor:
    """``band[k] = Σ_j taps[j]·x[k·stride + j·dilation − left]``, mirrored beyond both borders."""
    size = x.shape[1]
    first = torch.arange(coefficients, device=x.device) * stride - left
    bands = []
    for taps in (low, high):
        band = x.new_zeros(x.shape[0], coefficients, x.shape[2])
        for j, tap in enumerate(taps):
            index = (first + j * dilation).remainder(2 * size)
            mirrored = torch.where(index < size, index, 2 * size - 1 - index)
            band += tap * x.index_select(1, mirrored)
        bands.append(band)
    return torch.stack(bands)


def filter_transposed(
    low: Tensor,
    high: Tensor,
    low_taps: list[float],
    high_taps: list[float],
    stride: int,
    dilation: int,
    start: int,
    samples: int,
) -> Tensor:
    """``x[q] = Σ taps[j]·band[k]``, all ``q = k·stride + j·dilation − start`` of both bands."""
    before, coefficients, after = low.shape
    first = torch.arange(coefficients, device=low.device) * stride - start
    signal = low.new_zeros(before, samples, after)
    for band, taps in ((low, low_taps), (high, high_taps)):
        for j, tap in enumerate(taps):
            place = first + j * dilation
            inside = (place >= 0) & (place < samples)
            signal.index_add_(1, place[inside], tap * band[:, inside])
    return signal


def median_above(x: Tensor, floor: Tensor) -> Tensor:
    """Return the median of each row's ``|x|`` above `floor`; NaN if there is no entry.

    Autograd can differentiate it, unlike the compiled version.
    """
    magnitude = x.abs()
    magnitude = torch.where(magnitude > floor[:, None], magnitude, torch.nan)
    # torch's median is the lower of the two middle values; the upper one comes next
    lower = magnitude.nanmedian(-1, keepdim=True).values
    count = (magnitude > 0).sum(-1, keepdim=True)
    up_to = (magnitude <= lower).sum(-1, keepdim=True)
    above = torch.where(magnitude > lower, magnitude, torch.inf).amin(-1, keepdim=True)
    upper = torch.where((count % 2 == 1) | (2 * up_to > count), lower, above)
    return ((lower + upper) / 2).squeeze(-1)
