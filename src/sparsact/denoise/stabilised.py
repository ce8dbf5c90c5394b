"""Data whose noise was made the same everywhere, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stabilised:
    """Blocks with additive noise of one standard deviation.

    Attributes:
        values: (…, one size per transformed dim).
        sigma: their noise, or None if it must be estimated.
        inverse: takes denoised values to the mean of the original data.
        missing: samples without noise, which are returned as they came, or None.
    """

    values: Tensor
    sigma: float | None
    inverse: Callable[[Tensor], Tensor]
    missing: Tensor | None = None


def interpolate(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation in a table with ascending `places`; constant beyond its ends."""
    places, values = places.to(x), values.to(x)
    inside = x.detach().clamp(float(places[0]), float(places[-1])).contiguous()
    right = torch.searchsorted(places, inside).clamp(1, len(places) - 1)
    slope = (values[right] - values[right - 1]) / (places[right] - places[right - 1])
    clamped = x.clamp(float(places[0]), float(places[-1]))
    return values[right - 1] + slope * (clamped - places[right - 1])
