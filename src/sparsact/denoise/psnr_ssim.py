"""PSNR and SSIM: how close a result is to the clean original."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sparsact.denoise.transformed_dims import last_dims

WINDOW = 7  # samples along each side of the SSIM window


@dataclass(frozen=True)
class Quality:
    """PSNR in decibels, and SSIM; only images have an SSIM."""

    psnr: float
    ssim: float | None

    def __str__(self) -> str:
        ssim = "" if self.ssim is None else f", SSIM {self.ssim:.3f}"
        return f"{self.psnr:.2f} dB{ssim}"


def psnr(x: Tensor, clean: Tensor, peak: float) -> float:
    """Peak signal-to-noise ratio, ``10·log10(peak²/mean((x − clean)²))`` dB."""
    error = (x - clean).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def ssim(x: Tensor, clean: Tensor, peak: float) -> float:
    """Structural similarity of images (…, H, W): the mean over all 7×7 windows.

    Images must be at least 7×7.

    Source:
        Wang et al., "Image quality assessment", IEEE TIP 13 (2004), with a flat window and
        sample covariances.
    """

    def mean(values: Tensor) -> Tensor:
        return avg_pool2d(values.reshape(-1, 1, *values.shape[-2:]), WINDOW, stride=1)

    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = mean(x), mean(clean)
    variance_x = unbiased * (mean(x * x) - mean_x.square())
    variance_y = unbiased * (mean(clean * clean) - mean_y.square())
    covariance = unbiased * (mean(x * clean) - mean_x * mean_y)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    )
    return similarity.mean().item()


def quality(
    x: Tensor, clean: Tensor, dims: int, channel_dim: int | None, peak: float | None
) -> Quality:
    """Both measures; if `peak` is None, the range of the clean original is used."""
    if peak is None:
        peak = (clean.max() - clean.min()).item() or 1.0
    ratio = psnr(x, clean, peak)
    if dims != 2:
        return Quality(ratio, None)
    images, originals = (last_dims(values, dims, channel_dim)[0] for values in (x, clean))
    if min(images.shape[-2:]) < WINDOW:
        return Quality(ratio, None)
    return Quality(ratio, ssim(images.double(), originals.double(), peak))


def mean_quality(pages: list[Quality]) -> Quality:
    """The mean over the pages of a file."""
    similarities = [page.ssim for page in pages if page.ssim is not None]
    return Quality(
        torch.tensor([page.psnr for page in pages], dtype=torch.float64).mean().item(),
        sum(similarities) / len(similarities) if similarities else None,
    )
