"""The samples of a batch of blocks whose last dims are transformed, and maps of the same shape."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.missing_values import fill
from sparsact.denoise.noise_levels import Noise, Sigma, known_noise
from sparsact.denoise.noise_models import NoiseModel
from sparsact.denoise.transformed_dims import back, last_dims
from sparsact.denoise.ycbcr import sigma_to_ycbcr, to_ycbcr
from sparsact.thresholds.arguments import broadcasts_to, check_threshold, widen


@dataclass(frozen=True)
class Blocks:
    """The samples of a batch, and maps of the same shape.

    Attributes:
        values: (…, one size per dim).
        missing: 1 where a sample is missing (and filled), else 0.
        variance: of the noise of each sample.
    """

    values: Tensor
    missing: Tensor | None = None
    variance: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Blocks":
        """The same with a function applied to the samples and the maps."""
        maps = (None if map_ is None else function(map_) for map_ in (self.missing, self.variance))
        return Blocks(function(self.values), *maps)

    def pieces(self, ndim: int, count: int) -> list["Blocks"]:
        """The batch in pieces of `count` blocks."""
        sizes = self.values.shape[-ndim:]
        parts = [
            [None] if tensor is None else tensor.reshape(-1, *sizes).split(count)
            for tensor in (self.values, self.missing, self.variance)
        ]
        number = len(parts[0])
        full = [part if part[0] is not None else [None] * number for part in parts]
        return [Blocks(*piece) for piece in zip(*full, strict=True)]


@dataclass(frozen=True)
class Samples:
    """Samples without holes, whose noise is additive.

    Attributes:
        values: as the input, in float32, float64 or complex.
        missing: what is returned as it came, or None.
        sigma: of the values, as an argument.
        inverse: takes denoised values back to the units of the input.
    """

    values: Tensor
    missing: Tensor | None
    sigma: Sigma
    inverse: Callable[[Tensor], Tensor]


def prepared(
    x: Tensor,
    missing: Tensor | None,
    axes: tuple[int, ...],
    model: NoiseModel | None,
    sigma: Sigma,
) -> Samples:
    """Fill what is missing, and make the noise additive.

    Args:
        x: the input, widened.
        missing: where a sample is missing.
        axes: the transformed dims.
        model: None if the noise is additive already.
        sigma: the argument.
    """
    ndim = len(axes)
    if model is not None:
        if x.is_complex():
            raise InputError("noise= other than 'gaussian' takes no complex numbers")
        moved, absent = _moved(x, axes), None if missing is None else _moved(missing, axes)
        if absent is not None:
            moved = fill(moved, absent, ndim)
        stable = model.stabilise(moved, absent, ndim)
        if stable.missing is not None:
            missing = back(stable.missing, axes) if bool(stable.missing.any()) else None
        x, sigma = back(stable.values, axes), stable.sigma
    if missing is not None:
        x = back(_filled(_moved(x, axes), _moved(missing, axes), ndim), axes)
    if model is None:
        return Samples(x, missing, sigma, lambda clean: clean)
    return Samples(x, missing, sigma, lambda clean: back(stable.inverse(_moved(clean, axes)), axes))


def blocks_of(
    samples: Samples, axes: tuple[int, ...], channel: int | None, depth: int
) -> tuple[Blocks, Noise]:
    """The samples with their maps, the transformed dims last, and what is known of the noise."""
    wide, sigma, ndim = samples.values, samples.sigma, len(axes)
    variance = None
    if isinstance(sigma, Tensor) and sigma.ndim == wide.ndim and sigma.ndim > 0:
        variance = _moved(_variance_map(sigma, wide, channel), axes)
        noise = Noise(has_map=True)
    values = _moved(wide if channel is None else to_ycbcr(wide, channel), axes)
    real = values.real if values.is_complex() else values
    if variance is None:
        spread = None if channel is None else channel - sum(axis < channel for axis in axes)
        noise = known_noise(sigma, values.shape[:-ndim], ndim, real, depth, spread)
    missing = None
    if samples.missing is not None:
        missing = _moved(samples.missing, axes).to(real.dtype)
    blocks = Blocks(values, missing, variance)
    return (blocks.each(_parts) if wide.is_complex() else blocks), noise


def _moved(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return last_dims(x, axes, None)[0]


def _parts(x: Tensor) -> Tensor:
    """Real and imaginary parts along a new first dim; a map is the same for both."""
    return torch.stack([x.real, x.imag]) if x.is_complex() else x.expand(2, *x.shape)


def _filled(x: Tensor, missing: Tensor, ndim: int) -> Tensor:
    if x.is_complex():
        return torch.complex(fill(x.real, missing, ndim), fill(x.imag, missing, ndim))
    return fill(x, missing, ndim)


def _variance_map(sigma: Tensor, wide: Tensor, channel: int | None) -> Tensor:
    """σ² of each sample, of Y, Cb and Cr if `channel` is the dim of R, G and B."""
    check_threshold(sigma, "sigma")
    if not broadcasts_to(sigma.shape, wide.shape):
        raise InputError(
            f"sigma= of shape {tuple(sigma.shape)} does not broadcast to the input of shape "
            f"{tuple(wide.shape)}, nor to its batch"
        )
    known = sigma.to(device=wide.device, dtype=wide.real.dtype).expand(wide.shape)
    return (known if channel is None else sigma_to_ycbcr(known, channel)).square()


def widened(x: Tensor) -> Tensor:
    """`x` in float32 or float64, or the complex numbers of these."""
    if not x.is_complex():
        return widen(x)
    return x.to(torch.complex128 if x.dtype == torch.complex128 else torch.complex64)
