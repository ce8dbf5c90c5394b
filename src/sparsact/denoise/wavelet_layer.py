"""Wavelet shrinkage as a layer with learned thresholds."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import sparsact.functional as SF
from sparsact._common.errors import InputError, unknown
from sparsact.denoise.noise_estimate import has_noise, robust_sigma
from sparsact.denoise.shrinkages import SHRINKS
from sparsact.denoise.wavelet_filters import filter_bank
from sparsact.denoise.wavelet_transform import Bands, decompose, keys, recompose
from sparsact.thresholds.arguments import broadcasts_to, check_input, check_threshold, widen

if TYPE_CHECKING:
    import pywt


class WaveletShrink(nn.Module):
    """``W⁻¹ S_λ(W x)`` with a learned λ for each band, or for each band of each channel.

    The parameter λ is used as |λ|, as in the threshold modules: it can reach 0, and weight decay
    pulls it there. ``shrink="firm"`` also learns the distance from λ to the upper bound μ, above
    which coefficients pass unchanged.

    Args:
        wavelet: name of a discrete wavelet of PyWavelets, or a ``pywt.Wavelet``.
        levels: depth of the transform.
        dims: number of transformed dims, the last ones: 1, 2 or 3.
        channels: 1, or the number of channels, for thresholds per channel; the channel dim is
            the one before the transformed dims, as in torch's convolutions.
        shrink: ``"soft"``, ``"firm"``, ``"garrote"``, ``"scad"``, ``"half"`` or ``"hard"``.
        lambd: the initial value of every λ.
        relative: λ is in standard deviations of the noise, which `forward` takes or estimates for
            each block; otherwise λ is in the units of the input.
        stationary: use the stationary, translation-invariant transform.

    Shape:
        (…, T), (…, H, W) or (…, D, H, W); the output has the shape of the input.

    Gradient:
        exact almost everywhere for the input and for λ; straight-through for the λ of
        ``"hard"``.

    Example:
        >>> layer = WaveletShrink("haar", levels=2, channels=8)
        >>> layer(torch.randn(4, 8, 16, 16)).shape
        torch.Size([4, 8, 16, 16])
        >>> layer.lambd.shape  # levels (coarsest first), bands, channels
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        wavelet: "str | pywt.Wavelet" = "db2",
        levels: int = 4,
        dims: int = 2,
        *,
        channels: int = 1,
        shrink: str = "soft",
        lambd: float = 0.5,
        relative: bool = False,
        stationary: bool = True,
    ) -> None:
        super().__init__()
        if shrink not in SHRINKS:
            raise unknown("shrink", shrink, SHRINKS)
        if min(levels, dims, channels) < 1:
            raise InputError(
                f"levels=, dims= and channels= must be at least 1, got {levels}, {dims}, {channels}"
            )
        check_threshold(lambd)
        self.bank = filter_bank(wavelet)
        self.levels = levels
        self.dims = dims
        self.channels = channels
        self.shrink = shrink
        self.relative = relative
        self.stationary = stationary
        shape = levels, len(keys(dims)), channels
        self.lambd = nn.Parameter(torch.full(shape, float(lambd)))
        if shrink == "firm":
            self.width = nn.Parameter(torch.full(shape, float(lambd)))

    def forward(self, x: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        """Shrink the wavelet coefficients of `x`.

        Args:
            x: floating point, of a shape that the class describes.
            sigma: noise of each block: a number, or a tensor that broadcasts to the dims that
                are not transformed. Only with ``relative=True``, where None estimates it.

        Raises:
            TypeError: `x` is not floating point.
            InputError: `x` has a different number of channels or is too small for the levels;
                σ is set with ``relative=False``, or does not broadcast.
        """
        check_input(x, "WaveletShrink")
        self._check_shape(x)
        wide = widen(x)
        bands = decompose(wide, self.bank, self.levels, self.dims, self.stationary)
        unit = self._unit(bands, sigma, wide)
        details = [self._shrunk(values, i, unit) for i, values in enumerate(bands.details)]
        return recompose(bands.with_details(details)).to(x.dtype)

    def _shrunk(self, values: Tensor, position: int, unit: Tensor | float) -> Tensor:
        lambd = self._against(self.lambd[position], values) * unit
        if self.shrink == "firm":
            width = self._against(self.width[position], values) * unit
            return SF.firmshrink(values, lambd, lambd + width)
        return SHRINKS[self.shrink](values, lambd)

    def _against(self, level: Tensor, values: Tensor) -> Tensor:
        """The magnitudes of `level` (bands, channels), in a shape that broadcasts to `values`."""
        magnitude = torch.where(level < 0, -level, level).to(values.dtype)
        if self.channels == 1:
            return magnitude.reshape(-1, *[1] * (values.ndim - 1))
        blank = [1] * (values.ndim - self.dims - 2)
        return magnitude.reshape(len(level), *blank, self.channels, *[1] * self.dims)

    def _unit(self, bands: Bands, sigma: float | Tensor | None, x: Tensor) -> Tensor | float:
        """The unit of λ: 1, or the noise with shape (…, 1 per transformed dim)."""
        if not self.relative:
            if sigma is not None:
                raise InputError("sigma= needs relative=True")
            return 1.0
        if sigma is None:
            return robust_sigma(bands, 1, has_noise(x, self.dims)).detach()
        check_threshold(sigma, "sigma")
        if not isinstance(sigma, Tensor):
            return float(sigma)
        batch = tuple(bands.approximation.shape[: -self.dims])
        if not broadcasts_to(sigma.shape, batch):
            raise InputError(
                f"sigma= of shape {tuple(sigma.shape)} does not broadcast to the batch's shape "
                f"{batch} (the dims that are not transformed)"
            )
        return sigma.reshape(*sigma.shape, *[1] * self.dims)

    def _check_shape(self, x: Tensor) -> None:
        if x.ndim < self.dims + (self.channels > 1):
            raise InputError(f"an input of shape {tuple(x.shape)} has too few dims for {self}")
        if self.channels > 1 and x.shape[-self.dims - 1] != self.channels:
            raise InputError(
                f"channels={self.channels}, but dim {-self.dims - 1} of the input of shape "
                f"{tuple(x.shape)} has size {x.shape[-self.dims - 1]}"
            )
        self.bank.check_levels(tuple(x.shape[-self.dims :]), self.levels)

    def extra_repr(self) -> str:
        """The transform, the shrinkage and the form of the thresholds."""
        parts = [f"{self.bank.name!r}, levels={self.levels}, dims={self.dims}"]
        if self.channels > 1:
            parts.append(f"channels={self.channels}")
        parts.append(f"shrink={self.shrink!r}")
        if self.relative:
            parts.append("relative=True")
        if not self.stationary:
            parts.append("stationary=False")
        return ", ".join(parts)
