"""Learn the thresholds of a denoiser, with clean images or without."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.noise_estimate import estimate_sigma
from sparsact.denoise.wavelet_layer import WaveletShrink
from sparsact.thresholds.arguments import check_input

if TYPE_CHECKING:
    import pywt

START = 1.5  # initial λ in standard deviations of the noise, between Bayes and Visu
PROBE = 0.05  # step of the divergence estimate, in standard deviations of the noise
SURE_SHRINKS = ("soft", "firm", "garrote", "scad")  # the continuous ones


def fit_denoiser(
    images: Tensor | Sequence[Tensor],
    sigma: float | None = None,
    *,
    clean: bool = True,
    wavelet: "str | pywt.Wavelet" = "db2",
    levels: int = 4,
    dims: int = 2,
    shrink: str = "firm",
    stationary: bool = True,
    steps: int = 100,
    batch_size: int = 4,
    crop: int = 96,
    lr: float = 0.1,
    seed: int = 0,
) -> WaveletShrink:
    """Learn thresholds per band, in units of the noise, with Adam on random crops.

    With clean images, noise of standard deviation σ is added and the squared error
    ``‖f(x + σz) − x‖²`` is minimised. With noisy images alone, Stein's unbiased estimate of that
    error is minimised, ``‖y − f(y)‖² − nσ² + 2σ²·div f(y)``. Its divergence is estimated along a
    random direction b as ``b·(f(y + εb) − f(y))/ε``.

    Args:
        images: a batch (…, H, W), or a sequence of tensors of such shapes; signals with
            ``dims=1``, volumes with ``dims=3``.
        sigma: standard deviation of the noise in the units of the images. Clean images need it;
            for noisy ones, None estimates it for each image.
        clean: whether the images are clean or noisy.
        wavelet: name of a discrete wavelet of PyWavelets, or a ``pywt.Wavelet``.
        levels: depth of the transform; a crop must be large enough for it.
        dims: number of transformed dims, the last ones.
        shrink: ``"firm"``, which learns two thresholds per band, or another one of
            :class:`WaveletShrink`; noisy images need a continuous one.
        stationary: use the stationary, translation-invariant transform.
        steps: number of updates.
        batch_size: crops per step.
        crop: side of a crop in samples; smaller along a dim if an image is smaller.
        lr: learning rate, in standard deviations of the noise per step.
        seed: of the crops and the noise.

    Returns:
        a `WaveletShrink` with ``relative=True``: it estimates the noise of an image, or takes it
        as ``sigma=``.

    Raises:
        TypeError: an image is not floating point.
        InputError: there is no image, σ is missing or not positive, or the shrinkage is not
            continuous with ``clean=False``.

    Example:
        >>> x = torch.linspace(0, 40, 4096).sin().sign().reshape(4, 1024)
        >>> model = fit_denoiser(x, sigma=0.2, dims=1, crop=512, steps=20)
        >>> noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        >>> bool((model(noisy) - x).std() < 0.5 * (noisy - x).std())
        True

    Source:
        Stein, "Estimation of the mean of a multivariate normal distribution", Ann. Stat. 9
        (1981); Ramani, Blu & Unser, "Monte-Carlo SURE", IEEE TIP 17 (2008).
    """
    blocks = _blocks(images, dims)
    sigmas = _sigmas(blocks, sigma, clean, wavelet, dims)
    if not clean and shrink not in SURE_SHRINKS:
        raise InputError(
            f"shrink={shrink!r} is not continuous, as clean=False requires; choose from "
            f"{', '.join(SURE_SHRINKS)}"
        )
    model = WaveletShrink(
        wavelet,
        levels,
        dims,
        shrink=shrink,
        lambd=START,
        relative=True,
        stationary=stationary,
    ).to(blocks[0].device)
    generator = torch.Generator().manual_seed(seed)
    loss = _squared_error if clean else _stein
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            crops, noise = _draw(blocks, sigmas, dims, batch_size, crop, generator)
            optimizer.zero_grad()
            loss(model, crops, noise, generator).backward()
            optimizer.step()
    return model


def _squared_error(
    model: WaveletShrink, clean: Tensor, sigma: Tensor, generator: torch.Generator
) -> Tensor:
    scale = sigma.reshape(-1, *[1] * model.dims)
    noisy = clean + scale * normal_like(clean, generator)
    error: Tensor = (model(noisy, sigma) - clean) / scale
    return error.square().mean()


def _stein(
    model: WaveletShrink, noisy: Tensor, sigma: Tensor, generator: torch.Generator
) -> Tensor:
    scale = sigma.reshape(-1, *[1] * model.dims)
    direction = normal_like(noisy, generator)
    both = torch.cat([noisy, noisy + PROBE * scale * direction])
    denoised, probed = model(both, sigma.repeat(2)).chunk(2)
    return stein_risk(noisy, denoised, probed, direction, scale).mean()


def stein_risk(
    noisy: Tensor, denoised: Tensor, probed: Tensor, direction: Tensor, scale: float | Tensor
) -> Tensor:
    """Stein's estimate of the squared error of each sample, in units of the noise's variance.

    Args:
        noisy: the samples.
        denoised: what a denoiser makes of them.
        probed: what it makes of ``noisy + PROBE·scale·direction``.
        direction: independent standard normal samples.
        scale: standard deviation of the noise.
    """
    divergence = direction * (probed - denoised) / (PROBE * scale)
    risk: Tensor = ((noisy - denoised) / scale).square() + 2 * divergence - 1
    return risk


def _blocks(images: Tensor | Sequence[Tensor], dims: int) -> list[Tensor]:
    """Single images in float32 or float64."""
    blocks: list[Tensor] = []
    for image in [images] if isinstance(images, Tensor) else images:
        check_input(image, "fit_denoiser")
        if image.ndim < dims:
            shape = tuple(image.shape)
            raise InputError(f"an image of shape {shape} has fewer than dims={dims} dims")
        wide = image.detach().to(torch.promote_types(image.dtype, torch.float32))
        blocks += wide.reshape(-1, *image.shape[image.ndim - dims :]).unbind()
    if not blocks:
        raise InputError("fit_denoiser needs at least one image")
    return blocks


def _sigmas(
    blocks: list[Tensor],
    sigma: float | None,
    clean: bool,
    wavelet: "str | pywt.Wavelet",
    dims: int,
) -> list[float]:
    if sigma is None and clean:
        raise InputError("clean images need sigma=, the noise to train for")
    if sigma is not None:
        sigmas = [float(sigma)] * len(blocks)
    else:
        sigmas = [estimate_sigma(block, wavelet, dims).item() for block in blocks]
    if not all(0 < value < float("inf") for value in sigmas):
        raise InputError(f"sigma= must be positive and finite; got {min(sigmas):.4g}")
    return sigmas


def _draw(
    blocks: list[Tensor],
    sigmas: list[float],
    dims: int,
    count: int,
    crop: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Random crops of one size, and the noise of each."""
    chosen = torch.randint(len(blocks), (count,), generator=generator).tolist()
    sizes = [min(crop, *(blocks[i].shape[dim] for i in chosen)) for dim in range(dims)]
    crops = []
    for i in chosen:
        block = blocks[i]
        for dim, size in enumerate(sizes):
            room = block.shape[dim] - size + 1
            start = int(torch.randint(room, (), generator=generator))
            block = block.narrow(dim, start, size)
        crops.append(block)
    stacked = torch.stack(crops)
    return stacked, stacked.new_tensor([sigmas[i] for i in chosen])


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal samples, drawn on the CPU."""
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype)
    return noise.to(like.device)
