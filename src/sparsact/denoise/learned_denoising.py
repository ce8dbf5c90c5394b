"""Denoise images with the network that comes with the package."""

import itertools
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.array_kinds import Array, Numbers
from sparsact.denoise.filtering import extend
from sparsact.denoise.image_batch import ImageBatch
from sparsact.denoise.noise_models import NoiseModel, NoiseName
from sparsact.denoise.shrinkage_network import EDGE, LAYERS, ShrinkageNetwork
from sparsact.thresholds.arguments import values_can_be_read

WEIGHTS = Path(__file__).parent / "weights"
TRAINED = (2 / 255, 75 / 255)  # σ of the training noise; photographs are 0 to 1
TILE = 1024  # side of what the network sees at once, without the overlap; even
AT_ONCE = 2**20  # pixels of small images that the network sees at once


def denoise_learned(
    x: Numbers,
    *,
    sigma: float | Tensor | None = None,
    channel_dim: int | None = None,
    noise: NoiseName | NoiseModel = "gaussian",
    mask: Array | None = None,
    network: ShrinkageNetwork | None = None,
) -> Numbers:
    """Remove noise from images with a small network that was trained on photographs.

    It is an unfolded sparse coder, ``z ← S_λ(z + W(x − D z))``, whose thresholds are proportional
    to σ. So one network is for all strengths of noise, and the units do not matter. It needs white
    noise of one strength; ``noise=`` makes other noise so.

    Args:
        x: images (…, H, W) of any size, in any units: a tensor, a NumPy array or nested lists, as
            :func:`denoise_wavelet` takes them. Every other dim is a batch. NaN is missing, as
            with `mask`.
        sigma: standard deviation of the noise in the units of `x`: a number, or a tensor that
            broadcasts to the batch dims (without the colours). By default it is estimated for each
            image, by :func:`estimate_sigma`. Images without noise are returned unchanged.
        channel_dim: dim of the colours. Three (R, G, B) are denoised together, with the root mean
            square of their noise; another number of channels one by one, as grey images.
        noise: as in :func:`denoise_wavelet`.
        mask: as in :func:`denoise_wavelet`.
        network: another network, such as one of :func:`fine_tune_denoiser`.

    Returns:
        a tensor, an array or lists, as `x`, with its shape and dtype. Integers are rounded and
        clipped to their range. The network computes in float32, also for float64. Large images are
        denoised in overlapping tiles, whose result is that of the whole up to rounding.

    Gradient:
        exact almost everywhere, through the network and the noise estimate.

    Warns:
        UserWarning: σ is outside 2/255 to 75/255 of the largest value (255 for 8 bits, otherwise
            that of the result), for which the network was trained.

    Raises:
        TypeError: `x` holds no real numbers.
        InputError: σ or the mask does not broadcast, there are no two dims of an image, `x` is
            infinite where the mask is True, or σ is to be estimated in an image of less than 4
            pixels along a dim.

    Example:
        >>> clean = torch.zeros(64, 64)
        >>> clean[16:48, 16:48] = 1.0
        >>> noise = 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> denoised = denoise_learned(clean + noise)
        >>> bool((denoised - clean).std() < 0.4 * noise.std())
        True

    Source:
        Janjušević, Khalilian-Gourtani & Wang, "CDLNet: Noise-adaptive convolutional dictionary
        learning network for blind denoising and demosaicing" (2022).
    """
    batch = ImageBatch(x, "denoise_learned", sigma, channel_dim, noise, mask)
    clean = _denoised(batch.images, batch.level, network)
    if noise == "gaussian":
        _warn_outside_training(batch, clean)
    restored: Numbers = batch.restore(clean)
    return restored


def _denoised(images: Tensor, level: Tensor, network: ShrinkageNetwork | None) -> Tensor:
    """Images (…, channels, H, W) without the noise of each."""
    network = network_for(images, network)
    if not images.numel():
        return images
    flat, levels = images.reshape(-1, *images.shape[-3:]), level.reshape(-1, 1, 1, 1)
    count = max(1, AT_ONCE // images.shape[-2:].numel())
    pieces = zip(flat.split(count), levels.split(count), strict=True)
    return torch.cat([_piece(*piece, network) for piece in pieces]).reshape(images.shape)


def _piece(images: Tensor, level: Tensor, network: ShrinkageNetwork) -> Tensor:
    if values_can_be_read(level) and not bool((level > 0).any()):
        return images
    mean = images.mean((1, 2, 3), keepdim=True)
    unit = torch.where(level > 0, level, 1.0)
    clean = torch.empty_like(images)
    height, width = images.shape[-2:]
    for top, left in itertools.product(range(0, height, TILE), range(0, width, TILE)):
        part = (slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width)))
        tile, inner = _around(images, part, network.reach)
        units = ((tile - mean) / unit).to(network.dtype)
        clean[(..., *part)] = network(units, 1.0)[(..., *inner)] * unit + mean
    return torch.where(level > 0, clean, images)


def _around(
    images: Tensor, part: tuple[slice, ...], reach: int
) -> tuple[Tensor, tuple[slice, ...]]:
    """A part with all pixels on which its result depends, and its place among them.

    Beyond the image, where fewer atoms reach, pixels are mirrored. Tiles begin at even pixels and
    have even sizes.
    """
    tile, inner = images, []
    reach += reach % 2
    for dim, place in zip((-2, -1), part, strict=True):
        size = images.shape[dim]
        start, stop = max(0, place.start - reach), min(size, place.stop + reach)
        left = EDGE if start == 0 else 0
        right = EDGE + size % 2 if stop == size else 0
        tile = extend(tile.narrow(dim, start, stop - start), dim, left, right)
        first = place.start - start + left
        inner.append(slice(first, first + place.stop - place.start))
    return tile, tuple(inner)


def network_for(images: Tensor, network: ShrinkageNetwork | None) -> ShrinkageNetwork:
    """The argument ``network=``, or the network of the package for (…, channels, H, W)."""
    channels = images.shape[-3]
    if network is None:
        return shipped_network(channels, images.device)
    if network.channels != channels:
        raise InputError(f"network= is for {network.channels} channels, the images have {channels}")
    return network


@lru_cache(maxsize=4)
def shipped_network(channels: int, device: torch.device) -> ShrinkageNetwork:
    """The network of the package for 1 or 3 channels, whose weights do not learn."""
    network = ShrinkageNetwork(channels, LAYERS[channels])
    weights = load_file(WEIGHTS / f"{'grey' if channels == 1 else 'colour'}.safetensors")
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return network.requires_grad_(False).to(device)


def _warn_outside_training(batch: ImageBatch, clean: Tensor) -> None:
    if not clean.numel() or not values_can_be_read(clean):
        return
    if batch.has_8_bits:
        largest = torch.full_like(batch.level, 255.0)
    else:
        largest = clean.abs().amax((-3, -2, -1))
    share = batch.level / largest
    outside = (share < 0.99 * TRAINED[0]) | (share > 1.01 * TRAINED[1])
    outside &= (batch.level > 0) & (largest > 0)
    if bool(outside.any()):
        warnings.warn(
            f"denoise_learned: σ is {float(share[outside][0]):.1%} of the largest value; the "
            f"network was trained for {TRAINED[0]:.1%} to {TRAINED[1]:.0%}",
            stacklevel=3,
        )
