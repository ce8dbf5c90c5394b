"""Photon noise: Poisson counts times a gain, plus an offset and Gaussian read noise."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.photon_curve import photon_curve
from sparsact.denoise.stabilised import Stabilised, interpolate
from sparsact.thresholds.arguments import check_positive, check_threshold, values_can_be_read

TABLE_END = 200.0  # counts up to which the mean is tabulated; beyond, its expansion is as exact
ROOT_STEP = 0.02  # distance of the table's entries, in roots of counts
NODES = 31  # of the Gauss–Hermite rule that averages over read noise


@dataclass(frozen=True)
class PoissonNoise:
    """``x = gain·Poisson(λ) + offset + read_noise·z``: a sensor that counts photons.

    The generalised Anscombe transform ``2·√(u + ⅜ + s²)`` of ``u = (x − offset)/gain`` gives noise
    of standard deviation 1, with ``s = read_noise/gain``. After denoising, its exact unbiased
    inverse is applied: the λ whose transformed data have the mean that was found.

    Args:
        gain: units of `x` per photon; None estimates it from `x`.
        offset: the value without light; None estimates it.
        read_noise: standard deviation of the Gaussian part, in units of `x`; None estimates it.
            An offset and read noise cannot be told apart in one image: if both are None, what
            raises the variance is read noise, and what lowers it is an offset.

    Raises:
        InputError: `gain` is not positive, or `read_noise` is negative.

    Example:
        >>> from sparsact.denoise import denoise_wavelet
        >>> counts = torch.poisson(torch.full((64, 64), 6.0), torch.Generator().manual_seed(0))
        >>> denoised = denoise_wavelet(counts, noise=PoissonNoise(gain=1.0))
        >>> bool((denoised - 6).abs().mean() < 0.3)
        True

    Source:
        Starck, Murtagh & Bijaoui, "Image Processing and Data Analysis" (1998); Mäkitalo & Foi,
        "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian
        noise", IEEE TIP 22 (2013).
    """

    gain: float | None = None
    offset: float | None = 0.0
    read_noise: float | None = 0.0

    def __post_init__(self) -> None:
        if self.gain is not None:
            check_positive(self.gain, "gain")
        if self.offset is not None and not math.isfinite(self.offset):
            raise InputError(f"offset= must be finite, got {self.offset}")
        if self.read_noise is not None:
            check_threshold(self.read_noise, "read_noise")

    def fitted(self, x: Tensor, missing: Tensor | None, ndim: int) -> "PoissonNoise":
        """The same with numbers for what is None, from blocks (…, one size per dim)."""
        if None not in (self.gain, self.offset, self.read_noise):
            return self
        gain, at_zero = photon_curve(x, missing, ndim, self._variance_at_zero(), self.gain)
        offset, read_noise = self.offset, self.read_noise
        if read_noise is None:
            read_noise = max(0.0, at_zero + gain * (offset or 0.0)) ** 0.5
        if offset is None:
            offset = (read_noise**2 - at_zero) / gain
        return replace(self, gain=gain, offset=offset, read_noise=read_noise)

    def _variance_at_zero(self) -> tuple[float, float] | None:
        """``read_noise² − gain·offset`` as (constant, factor of the gain), if it is known."""
        if self.offset is None or self.read_noise is None:
            return None
        return self.read_noise**2, -self.offset

    def stabilise(self, x: Tensor, missing: Tensor | None, ndim: int) -> Stabilised:
        """The generalised Anscombe transform of blocks, and its exact unbiased inverse."""
        if self.read_noise == 0 and self.offset is not None and values_can_be_read(x):
            self._check_counts(x if missing is None else x[~missing])
        model = self.fitted(x.detach(), missing, ndim)
        assert model.gain is not None
        assert model.offset is not None
        assert model.read_noise is not None
        gain, offset, spread = model.gain, model.offset, model.read_noise / model.gain
        means, counts = _table(spread)

        def inverse(values: Tensor) -> Tensor:
            far = values.square() / 4 - 0.125 - spread**2
            near = interpolate(values, means, counts)
            return gain * torch.where(values > float(means[-1]), far, near) + offset

        units = (x - offset) / gain + (0.375 + spread**2)
        return Stabilised(2 * units.clamp(min=0).sqrt(), 1.0, inverse)

    def _check_counts(self, x: Tensor) -> None:
        least = float(x.detach().min()) if x.numel() else 0.0
        if self.offset is not None and least < self.offset:
            raise InputError(
                f"Poisson data cannot be below offset={self.offset:g}, got {least:g}; set "
                "read_noise= or offset=, or use noise='poisson-gaussian', which estimates both"
            )


def _table(spread: float) -> tuple[Tensor, Tensor]:
    """The means of transformed data, ascending, and their λ: Σₚ Pr(p; λ)·E[f(p + s·z)]."""
    root = np.arange(0, TABLE_END**0.5, ROOT_STEP)
    counts = np.square(root)
    photons = np.arange(TABLE_END + 12 * TABLE_END**0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES if spread else 1)
    shifted = photons[:, None] + spread * nodes + 0.375 + spread**2
    values = 2 * np.sqrt(np.clip(shifted, 0, None)) @ (weights / weights.sum())
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(photons[1:]))])
    logs = np.log(np.maximum(counts, 1e-300))
    chances = np.exp(photons * logs[:, None] - counts[:, None] - log_factorials)
    return torch.from_numpy(chances @ values), torch.from_numpy(counts)
