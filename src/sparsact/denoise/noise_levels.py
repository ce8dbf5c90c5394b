"""What is known of the noise, and the noise of the coefficients of each level."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.noise_estimate import robust_sigma, rounding
from sparsact.denoise.threshold_rules import NoisyLevel
from sparsact.denoise.wavelet_transform import Bands, keys
from sparsact.denoise.ycbcr import sigma_to_ycbcr
from sparsact.thresholds.arguments import broadcasts_to, check_threshold

Sigma = float | Tensor | Literal["level"] | None | Sequence[float | Tensor]
MOSTLY = 0.5  # a coefficient counts if less than this share of its samples is missing


@dataclass(frozen=True)
class Noise:
    """The standard deviation of the noise, or how it is estimated.

    Attributes:
        known: per level, coarsest first, (…, 1 per transformed dim); one entry is for all levels;
            None: estimated.
        by_level: estimate it for each level.
        has_map: whether it is known for each sample, by a map that goes with the samples.
    """

    known: list[Tensor] | None = None
    by_level: bool = False
    has_map: bool = False

    @property
    def is_estimated(self) -> bool:
        """Whether the coefficients tell the noise."""
        return self.known is None and not self.has_map

    def is_same_for(self, ndim: int) -> bool:
        """Whether all blocks of a batch have the same known noise, or none is known."""
        return self.known is None or all(sigma.ndim == ndim for sigma in self.known)


def known_noise(
    sigma: Sigma, batch: torch.Size, ndim: int, like: Tensor, depth: int, channel: int | None
) -> Noise:
    """What an argument ``sigma=`` other than a map tells.

    Args:
        sigma: None, ``"level"``, a number, a tensor that broadcasts to `batch`, or a list of such
            with one entry per level.
        batch: the shape of the batch.
        ndim: number of transformed dims.
        like: for dtype and device.
        depth: the number of levels.
        channel: the dim of the batch whose noise in R, G, B becomes that of Y, Cb, Cr.

    Raises:
        InputError: it has another value, or does not broadcast.
    """
    if sigma is None or isinstance(sigma, str):
        if sigma not in (None, "level"):
            raise InputError(f"sigma= must be a number, a tensor, None or 'level', got {sigma!r}")
        return Noise(by_level=sigma == "level")
    entries = [sigma]
    if isinstance(sigma, (list, tuple)):
        entries = list(sigma)
        if len(entries) != depth:
            raise InputError(
                f"sigma= must have one entry for each of the {depth} levels, coarsest first; "
                f"got {len(entries)}"
            )
    known = []
    for entry in entries:
        check_threshold(entry, "sigma")
        level = torch.as_tensor(entry, dtype=like.dtype, device=like.device)
        if not broadcasts_to(level.shape, batch):
            raise InputError(
                f"sigma= of shape {tuple(level.shape)} does not broadcast to the batch's shape "
                f"{tuple(batch)} (the dims that are not transformed) or to the input"
            )
        if channel is not None:
            level = sigma_to_ycbcr(level.expand(batch), channel)
        known.append(level.reshape(*level.shape, *[1] * ndim))
    return Noise(known)


def noisy_levels(
    bands: Bands,
    noise: Noise,
    noisy: Tensor | None,
    missing: list[Tensor] | None,
    variance: list[Tensor] | None,
    averaged: bool,
) -> list[NoisyLevel]:
    """The coefficients of each level with their noise, coarsest first.

    Args:
        bands: the coefficients.
        noise: what is known.
        noisy: which blocks can have noise, as ``has_noise`` returns it.
        missing: per level, the share of each coefficient's samples that is missing.
        variance: per level, the variance of the noise of each coefficient.
        averaged: whether the result is a mean over shifts.
    """
    ndim, depth = bands.ndim, len(bands.details)
    levels = []
    finest = None
    for i, (values, level) in enumerate(zip(bands.details, range(depth, 0, -1), strict=True)):
        if variance is not None:
            sigma = variance[i].clamp(min=0).sqrt()
        elif noise.known is not None:
            sigma = noise.known[i if len(noise.known) > 1 else 0]
        elif noise.by_level or finest is None:
            share = None if missing is None else missing[i if noise.by_level else -1][-1]
            sigma = robust_sigma(bands, level if noise.by_level else 1, noisy, share)
            finest = sigma
        else:
            sigma = finest
        counted = None if missing is None else missing[i] < MOSTLY
        if noisy is not None:  # there are many zeros: regions without noise
            present = values.detach().abs() > rounding(bands)
            counted = present if counted is None else counted & present
        split = bands.is_split(level)
        names = None if all(split) else keys(ndim, split)
        shifts = bands.shifts(level)[0]
        levels.append(NoisyLevel(values, sigma, ndim, shifts, averaged, names, counted))
    return levels
