"""Denoise by wavelet shrinkage: transform, threshold, transform back."""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

import sparsact.functional as SF
from sparsact._common.errors import InputError, unknown
from sparsact.denoise.filtering import extend
from sparsact.denoise.noise_estimate import robust_sigma
from sparsact.denoise.threshold_rules import Given, Level, NoisyLevel, choose
from sparsact.denoise.transformed_dims import Dims, back, channel_axis, last_dims
from sparsact.denoise.wavelet_filters import FilterBank, filter_bank
from sparsact.denoise.wavelet_transform import Bands, decompose, recompose
from sparsact.denoise.ycbcr import sigma_to_ycbcr, to_rgb, to_ycbcr
from sparsact.thresholds.arguments import (
    broadcasts_to,
    check_input,
    check_threshold,
    values_can_be_read,
    widen,
)

if TYPE_CHECKING:
    import pywt

Shrink = Callable[[Tensor, Level], Tensor]
Sigma = float | Tensor | Literal["level"] | None


def firm(x: Tensor, lambd: Level) -> Tensor:
    """Firm shrinkage with the upper bound at twice the threshold."""
    return SF.firmshrink(x, lambd, 2 * lambd)


SHRINKS: dict[str, Shrink] = {
    "soft": SF.softshrink,
    "hard": SF.hardshrink,
    "firm": firm,
    "garrote": SF.garrote,
    "scad": SF.scad,
    "half": SF.halfshrink,
}


def denoise_wavelet(
    x: Tensor,
    wavelet: "str | pywt.Wavelet" = "db2",
    levels: int | None = None,
    threshold: str | Given = "bayes",
    shrink: str | Shrink = "soft",
    sigma: Sigma = None,
    cycle_spins: int | Literal["all"] = 1,
    dims: Dims = 2,
    *,
    channel_dim: int | None = None,
    ycbcr: bool = False,
    samples_at_once: int = 2**21,
) -> Tensor:
    """Remove noise by shrinking wavelet coefficients: ``W⁻¹ S_λ(W x)``.

    Args:
        x: signals (…, T) with ``dims=1``, images (…, H, W), volumes (…, D, H, W) with
            ``dims=3``; floating point, any sizes. Every other dim is a batch; each block of it
            has its own thresholds.
        wavelet: name of a discrete wavelet of PyWavelets, or a ``pywt.Wavelet``. The rules
            assume an orthogonal one.
        levels: depth of the transform; by default 3 less than the deepest, at least 1.
        threshold: a rule that chooses λ for each band: ``"bayes"`` (BayesShrink), ``"visu"``
            (universal), ``"sure"`` (hybrid SureShrink) or ``"fdr"`` (false discoveries). Or λ
            in the units of `x`: a number, or a tensor that broadcasts to the batch dims. Or a
            list with one entry per level, coarsest first: such a λ, or a mapping from band
            (``"ad"``, …) to λ.
        shrink: ``"soft"``, ``"hard"``, ``"firm"`` (up to 2λ), ``"garrote"``, ``"scad"``,
            ``"half"``, or any ``f(coefficients, lambd)`` such as those of
            :mod:`sparsact.functional`.
        sigma: standard deviation of the noise in the units of `x`: a number, or a tensor that
            broadcasts to the batch dims. None estimates it for each block from the finest
            diagonal band; ``"level"`` estimates it for each level (coloured noise).
        cycle_spins: the number of shifts per dim over which the result is averaged.
            ``"all"``, or at least ``2^levels``, averages over all shifts with the stationary
            transform, which chooses thresholds once for all of them. When signals are averaged
            over shifts, ``"bayes"`` is spatially adaptive: the coefficients of each shift are
            sorted by the mean magnitude of their two neighbours, and a threshold comes from the
            50 (or 2%) on either side. A shift of at most 51 coefficients has one threshold. A
            smooth signal can lose 0.2 dB by this.
        dims: the transformed dims: a tuple, or their number counted from the last dim.
        channel_dim: dim of the colours; a number of dims does not count it.
        ycbcr: denoise R, G, B (three channels along `channel_dim`) as Y, Cb, Cr.
        samples_at_once: large batches are transformed in pieces of about this many samples, to
            save memory and time.

    Returns:
        a tensor of the shape and dtype of `x`; half precision is computed in float32.

    Gradient:
        exact almost everywhere, through coefficients, thresholds and noise estimate;
        straight-through for the thresholds of ``shrink="hard"``.

    Raises:
        TypeError: `x` is not floating point.
        InputError: an argument has an unknown value, λ or σ does not broadcast, a block is
            smaller than the filter, or `x` has NaN or infinite entries (checked in eager mode on
            the CPU).

    Example:
        >>> clean = torch.zeros(64, 64)
        >>> clean[16:48, 16:48] = 1.0
        >>> noise = 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> denoised = denoise_wavelet(clean + noise, "haar", cycle_spins="all")
        >>> bool((denoised - clean).std() < 0.5 * noise.std())
        True

    Source:
        Donoho & Johnstone, Biometrika 81 (1994) and JASA 90 (1995); Chang, Yu & Vetterli,
        "Adaptive wavelet thresholding" and, for signals over shifts, "Spatially adaptive wavelet
        thresholding with context modeling", IEEE TIP 9 (2000); Abramovich & Benjamini, CSDA 22
        (1996); Coifman & Donoho, "Translation-invariant de-noising" (1995).
    """
    check_input(x, "denoise_wavelet")
    shrink_function = _shrink_function(shrink)
    _check_spins(cycle_spins)
    bank = filter_bank(wavelet)
    channel = _colour_axis(x, channel_dim) if ycbcr else None
    wide = widen(x) if channel is None else to_ycbcr(widen(x), channel)
    moved, axes = last_dims(wide, dims, channel_dim)
    ndim = len(axes)
    levels = depth(bank, tuple(moved.shape[-ndim:]), levels)
    batch = moved.shape[:-ndim]
    spread = None if channel is None else channel - sum(axis < channel for axis in axes)
    known = _known_sigma(sigma, batch, moved, spread)

    def once(block: Tensor, stationary: bool) -> Tensor:
        bands = decompose(block, bank, levels, ndim, stationary)
        _check_finite(bands)
        noisy = _noisy_levels(bands, sigma if known is None else known, cycle_spins != 1)
        chosen = choose(threshold, noisy, math.prod(block.shape[-ndim:]), batch)
        details = [
            shrink_function(level.values, lambd) for level, lambd in zip(noisy, chosen, strict=True)
        ]
        return recompose(bands.with_details(details))

    def spun(block: Tensor) -> Tensor:
        if cycle_spins == "all" or cycle_spins >= 2**levels:
            return once(block, stationary=True)
        return _spin(block, cycle_spins, ndim, lambda shifted: once(shifted, stationary=False))

    same_for_all = isinstance(threshold, (str, float, int)) and (
        known is None or known.ndim == ndim
    )
    clean = _in_pieces(moved, ndim, spun, samples_at_once) if same_for_all else spun(moved)
    clean = back(clean, axes)
    return (clean if channel is None else to_rgb(clean, channel)).to(x.dtype)


def depth(bank: FilterBank, sizes: tuple[int, ...], levels: int | None) -> int:
    """`levels` after a check, or by default 3 less than the deepest for blocks of these sizes."""
    if levels is None:
        bank.check_sizes(sizes)
        return max(bank.max_levels(sizes) - 3, 1)
    bank.check_levels(sizes, levels)
    return levels


def _in_pieces(x: Tensor, ndim: int, denoise: Callable[[Tensor], Tensor], samples: int) -> Tensor:
    """Denoise a few blocks at a time: allocating large tensors costs more than arithmetic."""
    batch, sizes = x.shape[:-ndim], x.shape[-ndim:]
    count = max(1, samples // sizes.numel())
    if batch.numel() <= count:
        return denoise(x)
    pieces = x.reshape(-1, *sizes).split(count)
    return torch.cat([denoise(piece) for piece in pieces]).reshape(x.shape)


def _spin(x: Tensor, spins: int, ndim: int, denoise: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over shifts by 0 … spins − 1 in every dim, with mirrored borders."""
    total = torch.zeros_like(x)
    for shifts in itertools.product(range(spins), repeat=ndim):
        block = x
        for dim, shift in zip(range(-ndim, 0), shifts, strict=True):
            block = extend(block, dim, shift, 0) if shift else block
        block = denoise(block)
        for dim, shift in zip(range(-ndim, 0), shifts, strict=True):
            block = block.narrow(dim, shift, x.shape[dim])
        total = total + block
    mean: Tensor = total / spins**ndim
    return mean


def _noisy_levels(bands: Bands, sigma: Sigma, averaged: bool) -> list[NoisyLevel]:
    levels = range(len(bands.details), 0, -1)
    if isinstance(sigma, Tensor):
        estimates = [sigma] * len(levels)
    elif sigma is None:
        estimates = [robust_sigma(bands, 1)] * len(levels)
    else:
        estimates = [robust_sigma(bands, level) for level in levels]
    return [
        NoisyLevel(values, estimate, bands.ndim, 2**level if bands.stationary else 1, averaged)
        for values, estimate, level in zip(bands.details, estimates, levels, strict=True)
    ]


def _known_sigma(sigma: Sigma, batch: torch.Size, x: Tensor, channel: int | None) -> Tensor | None:
    """σ as a tensor (…, 1 per transformed dim), or None if it must be estimated."""
    if sigma is None or isinstance(sigma, str):
        if sigma not in (None, "level"):
            raise InputError(f"sigma= must be a number, a tensor, None or 'level', got {sigma!r}")
        return None
    check_threshold(sigma, "sigma")
    known = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if not broadcasts_to(known.shape, batch):
        raise InputError(
            f"sigma= of shape {tuple(known.shape)} does not broadcast to the batch's shape "
            f"{tuple(batch)} (the dims that are not transformed)"
        )
    if channel is not None:
        known = sigma_to_ycbcr(known.expand(batch), channel)
    return known.reshape(*known.shape, *[1] * (x.ndim - len(batch)))


def _shrink_function(shrink: str | Shrink) -> Shrink:
    if not isinstance(shrink, str):
        return shrink
    if shrink not in SHRINKS:
        raise unknown("shrink", shrink, SHRINKS)
    return SHRINKS[shrink]


def _check_spins(spins: int | str) -> None:
    if spins != "all" and (not isinstance(spins, int) or isinstance(spins, bool) or spins < 1):
        raise InputError(f"cycle_spins= must be a positive number or 'all', got {spins!r}")


def _colour_axis(x: Tensor, channel_dim: int | None) -> int:
    if channel_dim is None:
        raise InputError("ycbcr=True needs channel_dim=, the dim that holds R, G and B")
    axis = channel_axis(x, channel_dim)
    if x.shape[axis] != 3:
        raise InputError(
            f"ycbcr=True needs 3 channels along channel_dim={channel_dim}, "
            f"got an input of shape {tuple(x.shape)}"
        )
    return axis


def _check_finite(bands: Bands) -> None:
    # every sample contributes to the approximation, which is much smaller than the input
    if values_can_be_read(bands.approximation) and not bool(bands.approximation.isfinite().all()):
        raise InputError("x has NaN or infinite entries; fill them first")
