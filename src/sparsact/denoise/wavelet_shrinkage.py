"""Denoise by wavelet shrinkage: transform, threshold, transform back."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from sparsact._common.errors import InputError, unknown
from sparsact.denoise.array_kinds import Array, ArrayKind, Numbers, argument
from sparsact.denoise.block_shrinkage import Shrink, Shrinkage
from sparsact.denoise.blocks import blocks_of, prepared, widened
from sparsact.denoise.dask_arrays import dask_settings, denoise_dask, is_dask
from sparsact.denoise.filtering import BORDERS, Border
from sparsact.denoise.missing_values import missing_values
from sparsact.denoise.noise_levels import Sigma
from sparsact.denoise.noise_models import NoiseModel, NoiseName, noise_model
from sparsact.denoise.shrinkages import shrink_function
from sparsact.denoise.threshold_rules import Given
from sparsact.denoise.transformed_dims import Dims, back, channel_axis, last_dims
from sparsact.denoise.wavelet_filters import Levels, filter_bank
from sparsact.denoise.ycbcr import to_rgb
from sparsact.thresholds.arguments import as_integer

if TYPE_CHECKING:
    import pywt


def denoise_wavelet(
    x: Numbers,
    wavelet: "str | pywt.Wavelet" = "db2",
    levels: Levels = None,
    threshold: str | Given = "bayes",
    shrink: str | Shrink = "soft",
    sigma: Sigma = None,
    cycle_spins: int | Literal["all"] = 1,
    dims: Dims = 2,
    *,
    channel_dim: int | None = None,
    ycbcr: bool = False,
    noise: NoiseName | NoiseModel = "gaussian",
    mask: Array | None = None,
    border: Border = "mirror",
    samples_at_once: int = 2**21,
) -> Numbers:
    """Remove noise by shrinking wavelet coefficients: ``W⁻¹ S_λ(W x)``.

    Args:
        x: signals (…, T) with ``dims=1``, images (…, H, W), volumes (…, D, H, W) with
            ``dims=3``, of any sizes: a tensor, a NumPy array or nested lists. Every other dim is
            a batch; each block of it has its own thresholds. Integers of any width (64 bits: up
            to ±2⁵³) keep their units: uint8 is 0 to 255. Floating-point numbers have no limits.
            Complex numbers have one threshold for the modulus, and keep their phase. NaN is
            missing, as with `mask`. A dask array is denoised as by :func:`denoise_tiles`, chunk
            by chunk with an overlap, always with all shifts, and not before it is computed.
        wavelet: name of a discrete wavelet of PyWavelets, or a ``pywt.Wavelet``. The rules
            assume an orthogonal one.
        levels: depth of the transform, or one for each transformed dim. By default, each dim has
            3 less than the deepest for its size, but at least 4 (signals: 7), or the deepest if
            that is less. With ``"visu"`` and ``"fdr"`` it is at least 2 (signals: 5), and the
            smallest dim decides for all.
        threshold: a rule that chooses λ for each band: ``"bayes"`` (BayesShrink), ``"visu"``
            (universal), ``"sure"`` (hybrid SureShrink) or ``"fdr"`` (false discoveries). Or λ
            in the units of `x`: a number, or a tensor that broadcasts to the batch dims. Or a
            list with one entry per level, coarsest first: such a λ, or a mapping from band
            (``"ad"``, …) to λ.
        shrink: ``"soft"``, ``"hard"``, ``"firm"`` (up to 2λ), ``"garrote"``, ``"scad"``,
            ``"half"``, or any ``f(coefficients, lambd)`` such as those of
            :mod:`sparsact.functional`.
        sigma: standard deviation of the noise in the units of `x` (of each part of a complex
            number): a number, a tensor that broadcasts to the batch dims, a map with the dims of
            `x` that broadcasts to it, or a list with one number or batch tensor per level,
            coarsest first. None estimates it for each block from the finest diagonal band;
            ``"level"`` estimates it for each level (coloured noise). Blocks without noise, such
            as a clean screenshot, are returned unchanged (see :func:`estimate_sigma`).
        cycle_spins: the number of shifts per dim over which the result is averaged.
            ``"all"`` averages over all shifts with the stationary transform, which chooses
            thresholds once for all of them. So does a number from 4 on (volumes: from 3 on), or of
            at least ``2^levels``: so many shifts one by one take longer, and all are better.
            When signals are averaged over shifts, ``"bayes"`` is spatially adaptive: the
            coefficients of each shift are sorted by the mean magnitude of their two neighbours,
            and a threshold comes from the 50 (or 2%) on either side. A shift of at most 51
            coefficients has one threshold. A smooth signal can lose 0.2 dB by this.
        dims: the transformed dims: a tuple, or their number counted from the last dim.
        channel_dim: dim of the colours; a number of dims does not count it.
        ycbcr: denoise R, G, B (three channels along `channel_dim`) as Y, Cb, Cr.
        noise: ``"gaussian"``, ``"poisson"`` (photon counts times an estimated gain),
            ``"poisson-gaussian"`` (also with an estimated offset and read noise),
            ``"multiplicative"``, ``"rician"`` (magnitudes of MRI), or a noise model with known
            values, such as ``PoissonNoise(gain=2.0)``. Other noise than Gaussian is made alike
            everywhere by a transform, and the mean is restored by its unbiased inverse.
        mask: boolean, broadcasts to `x`: False where a value is missing. Missing values are
            filled from their neighbours for the transform, and returned as they were, bit for
            bit. Neither noise nor thresholds are estimated from them.
        border: how blocks continue beyond their borders: ``"mirror"``, ``"periodic"``,
            ``"constant"`` (the value at the border) or ``"zero"``.
        samples_at_once: large batches are transformed in pieces of about this many samples, to
            save memory and time.

    Returns:
        a tensor, an array or lists, as `x`, with its shape and dtype. Integers are rounded and
        clipped to their range. Half precision and up to 16 bits are computed in float32.

    Gradient:
        exact almost everywhere, through coefficients, thresholds and noise estimate;
        straight-through for the thresholds of ``shrink="hard"``.

    Raises:
        TypeError: `x` holds no numbers.
        InputError: an argument has an unknown value; λ, σ or the mask does not broadcast; a block
            is smaller than the filter; or `x` is infinite where the mask is True. Infinite
            entries and NaN are found in eager mode on the CPU; elsewhere, pass a mask.

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
    if is_dask(x):
        others = {"noise": noise != "gaussian", "mask": mask is not None, "ycbcr": ycbcr}
        others |= {"border": border != "mirror", "dims": isinstance(dims, Iterable)}
        settings = dask_settings(threshold, shrink, sigma, others)
        assert not isinstance(dims, Iterable)
        lazy: Numbers = denoise_dask(x, settings, wavelet, levels, dims, channel_dim)
        return lazy
    kind = ArrayKind(x, "denoise_wavelet")
    function = shrink_function(shrink)
    _check_spins(cycle_spins)
    _check_border(border)
    bank = filter_bank(wavelet)
    wide = widened(kind.tensor())
    channel = _colour_axis(wide, channel_dim) if ycbcr else None
    missing = missing_values(wide, kind.mask(mask))
    moved, axes = last_dims(wide, dims, channel_dim)
    ndim = len(axes)
    batch, sizes = moved.shape[:-ndim], tuple(moved.shape[-ndim:])
    large = isinstance(threshold, str) and threshold in ("visu", "fdr")
    depths = bank.depths(sizes, levels, large)
    sigma = argument(sigma)
    samples = prepared(wide, missing, axes, noise_model(noise, sigma), sigma)
    blocks, level = blocks_of(samples, axes, channel, max(depths))
    shrinkage = Shrinkage(
        bank,
        depths,
        border,
        argument(threshold),
        function,
        level,
        0 if cycle_spins == "all" or all_are_faster(cycle_spins, depths) else cycle_spins,
        batch,
        wide.is_complex(),
    )
    clean = shrinkage(blocks, samples_at_once)
    clean = back(torch.complex(clean[0], clean[1]) if wide.is_complex() else clean, axes)
    clean = clean if channel is None else to_rgb(clean, channel)
    restored: Numbers = kind.restore(samples.inverse(clean), samples.missing)
    return restored


def all_are_faster(spins: int, depths: tuple[int, ...]) -> bool:
    """Whether `spins` shifts per dim, one by one, would take longer than all with shared work."""
    shifts: int = spins ** len(depths)
    return spins >= min(4, 2 ** max(depths)) or shifts > 16


def _check_spins(spins: int | str) -> None:
    try:
        is_count = spins == "all" or as_integer(spins, "cycle_spins") >= 1
    except TypeError:
        is_count = False
    if not is_count:
        raise InputError(f"cycle_spins= must be a positive number or 'all', got {spins!r}")


def _colour_axis(x: Tensor, channel_dim: int | None) -> int:
    if channel_dim is None:
        raise InputError("ycbcr=True needs channel_dim=, the dim that holds R, G and B")
    if x.is_complex():
        raise InputError("ycbcr=True takes no complex numbers")
    axis = channel_axis(x, channel_dim)
    if x.shape[axis] != 3:
        raise InputError(
            f"ycbcr=True needs 3 channels along channel_dim={channel_dim}, "
            f"got an input of shape {tuple(x.shape)}"
        )
    return axis


def _check_border(border: str) -> None:
    if border not in BORDERS:
        raise unknown("border", border, BORDERS)
