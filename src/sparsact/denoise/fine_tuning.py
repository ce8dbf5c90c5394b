"""Fit the trained network to noisy images, without any clean ones."""

import copy

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.array_kinds import Array
from sparsact.denoise.denoiser_fitting import PROBE, normal_like, stein_risk
from sparsact.denoise.image_batch import ImageBatch
from sparsact.denoise.learned_denoising import network_for
from sparsact.denoise.noise_models import NoiseModel, NoiseName
from sparsact.denoise.shrinkage_network import EDGE, ShrinkageNetwork
from sparsact.thresholds.arguments import as_integer, check_positive

SMALLEST = 4 * EDGE  # side of an image; an edge is not scored


def fine_tune_denoiser(
    x: Array,
    *,
    sigma: float | Tensor | None = None,
    channel_dim: int | None = None,
    noise: NoiseName | NoiseModel = "gaussian",
    mask: Array | None = None,
    steps: int = 100,
    batch_size: int = 4,
    crop: int = 96,
    lr: float = 1e-4,
    seed: int = 0,
    network: ShrinkageNetwork | None = None,
) -> ShrinkageNetwork:
    """Train the network of :func:`denoise_learned` further, on noisy images alone.

    Adam minimises Stein's unbiased estimate of the squared error on random crops, as
    :func:`fit_denoiser` does with ``clean=False``. This helps where images differ from photographs,
    as those of microscopes do. The noise must be white: the estimate relies on it.

    Args:
        x: noisy images (…, H, W), as :func:`denoise_learned` takes them; more images are better.
        sigma: as in :func:`denoise_learned`.
        channel_dim: as in :func:`denoise_learned`.
        noise: as in :func:`denoise_learned`; photon counts become additive noise by the Anscombe
            transform, and the network learns on the transformed images.
        mask: as in :func:`denoise_learned`; what is missing is not scored.
        steps: number of updates.
        batch_size: crops per step.
        crop: side of a crop in pixels; smaller if the images are smaller.
        lr: learning rate.
        seed: of the crops and of the directions in which the estimate is taken.
        network: where to start; by default at the network of the package.

    Returns:
        a network for ``denoise_learned(..., network=)``, whose weights do not learn further.
        ``torch.save(network.state_dict(), path)`` keeps it.

    Raises:
        TypeError: `x` holds no real numbers.
        InputError: as :func:`denoise_learned`; no image has noise, the images have less than 24
            pixels along a dim, or a number is not positive.

    Example:
        >>> from sparsact.denoise import denoise_learned
        >>> x = torch.linspace(0, 9, 4096).sin().reshape(64, 64)
        >>> noisy = x + 0.3 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> network = fine_tune_denoiser(noisy, steps=2, crop=32)
        >>> denoise_learned(noisy, network=network).shape
        torch.Size([64, 64])

    Source:
        Ramani, Blu & Unser, "Monte-Carlo SURE", IEEE TIP 17 (2008); Soltanayev & Chun, "Training
        deep learning based denoisers without ground truth data" (2018).
    """
    check_positive(lr, "lr")
    for name, number in (("steps", steps), ("batch_size", batch_size)):
        check_positive(as_integer(number, name), name)
    batch = ImageBatch(x, "fine_tune_denoiser", sigma, channel_dim, noise, mask)
    images, known = _units(batch)
    side = min(as_integer(crop, "crop"), *images.shape[-2:]) // 2 * 2
    if side < SMALLEST:
        raise InputError(
            f"fine_tune_denoiser needs images and crop= of at least {SMALLEST} pixels per dim, got "
            f"{tuple(images.shape[-2:])} and crop={crop}"
        )
    tuned = copy.deepcopy(network_for(images, network)).requires_grad_(True)
    optimizer = torch.optim.Adam(tuned.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(steps):
            crops, counted = _draw(images, known, batch_size, side, generator)
            optimizer.zero_grad()
            _risk(tuned, crops.to(tuned.dtype), counted, generator).backward()
            optimizer.step()
    return tuned.requires_grad_(False)


def _units(batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Images (batch, channels, H, W) about 0 with unit noise, and where they are known."""
    images, level = batch.images.detach(), batch.level.detach()
    known = torch.ones_like(images, dtype=torch.bool) if batch.known is None else batch.known
    noisy = level > 0
    if not bool(noisy.any()) or not images.numel():
        raise InputError("fine_tune_denoiser found no noise in the images; set sigma=")
    images, known = images[noisy], known[noisy]
    mean = images.mean((-3, -2, -1), keepdim=True)
    return (images - mean) / level[noisy].view(-1, 1, 1, 1), known


def _draw(
    images: Tensor, known: Tensor, count: int, side: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random crops of one size, and where they are known."""
    crops = []
    for _ in range(count):
        bounds = (len(images), *(size - side + 1 for size in images.shape[-2:]))
        number, top, left = (int(torch.randint(bound, (), generator=generator)) for bound in bounds)
        place = (number, slice(None), slice(top, top + side), slice(left, left + side))
        crops.append((images[place], known[place]))
    return torch.stack([crop for crop, _ in crops]), torch.stack([there for _, there in crops])


def _risk(
    network: ShrinkageNetwork, noisy: Tensor, counted: Tensor, generator: torch.Generator
) -> Tensor:
    direction = normal_like(noisy, generator)
    denoised, probed = network(torch.cat([noisy, noisy + PROBE * direction]), 1.0).chunk(2)
    risk = stein_risk(noisy, denoised, probed, direction, 1.0) * counted
    return risk[..., EDGE:-EDGE, EDGE:-EDGE].mean()
