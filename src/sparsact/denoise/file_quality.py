"""PSNR and SSIM of a file against its clean original."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.denoise.files import Content, read
from sparsact.denoise.files.file_content import Array
from sparsact.denoise.noise_estimate import estimate_sigma
from sparsact.denoise.noise_levels import Sigma
from sparsact.denoise.psnr_ssim import Quality, mean_quality, quality
from sparsact.denoise.removed_noise import RemovedNoise, removed_noise

MOST = 2**22  # values of a block whose spectrum is measured


def original(path: Path, noisy: Content, column: str | None) -> Content:
    """The clean original of a file.

    Raises:
        InputError: it has another shape, or other units.
    """
    clean = read(path, column, noisy.nodata)
    if len(clean.blocks) > len(noisy.blocks):
        clean = clean.volume(path)
    shapes = [block.shape for block in clean.blocks], [block.shape for block in noisy.blocks]
    if shapes[0] != shapes[1]:
        raise InputError(f"{path} has the shape {shapes[0]}, the noisy file {shapes[1]}")
    if clean.peak != noisy.peak:
        raise InputError(
            f"{path} holds {clean.units}, the noisy file {noisy.units}; no quality can be "
            "measured between them"
        )
    return clean


def file_quality(blocks: list[Array], clean: Content, content: Content) -> Quality:
    """The mean quality of blocks, without the values that are missing."""
    pages = []
    for index, (block, known) in enumerate(zip(blocks, clean.blocks, strict=True)):
        absent = [places for c in (content, clean) if (places := c.absent(index)) is not None]
        missing = np.logical_or.reduce(absent) if absent else np.zeros(block.shape, bool)
        target = as_tensor(without(missing, known))
        values = torch.where(torch.from_numpy(missing), target, as_tensor(block))
        page = quality(values, target, content.dims, content.channel_dim, content.peak)
        share = max(1, missing.size - int(missing.sum())) / missing.size
        pages.append(replace(page, psnr=page.psnr + 10 * math.log10(share)))
    return mean_quality(pages)


def removed_from(
    content: Content, results: list[Array], sigma: Sigma, wavelet: str
) -> list[RemovedNoise | None]:
    """The power of what was removed from each block; None where it is not measured.

    White noise is expected if σ is one number or None. Blocks with missing values or without
    noise are not measured; of large ones, the middle is.
    """
    known = sigma if isinstance(sigma, (int, float)) else None
    is_white = known is not None or sigma is None
    removed: list[RemovedNoise | None] = []
    for index, (old, new) in enumerate(zip(content.blocks, results, strict=True)):
        if not is_white or content.absent(index) is not None:
            removed.append(None)
            continue
        noisy, clean = (as_tensor(_middle(block, content)) for block in (old, new))
        level = _sigma_of(noisy, wavelet, content.dims) if known is None else known
        if level > 0 and min(noisy.shape[-content.dims :]) > 1:
            changes, tests = noisy - clean, len(results)
            removed.append(removed_noise(changes, level, content.dims, known is None, tests))
        else:
            removed.append(None)
    return removed


def _middle(block: Array, content: Content) -> Array:
    """The middle of each transformed dim, for about as many blocks as fit into `MOST` values."""
    channel, dims = content.channel_dim, content.dims
    moved = block if channel is None else np.moveaxis(block, channel, 0)
    limits = [min(size, int(MOST ** (1 / dims))) for size in moved.shape[moved.ndim - dims :]]
    middle = tuple(
        slice((size - limit) // 2, (size - limit) // 2 + limit)
        for size, limit in zip(moved.shape[moved.ndim - dims :], limits, strict=True)
    )
    count = max(1, MOST // math.prod(limits))
    batch = itertools.islice(np.ndindex(moved.shape[: moved.ndim - dims]), count)
    return np.stack([moved[index][middle] for index in batch])


def _sigma_of(noisy: Tensor, wavelet: str, ndim: int) -> float:
    """The noise of all blocks together."""
    return float(estimate_sigma(noisy, wavelet, ndim).double().square().mean().sqrt())


def without(missing: Array | None, block: Array) -> Array:
    """A block for pictures and measures, whose missing values are the mean of the others."""
    if missing is None or not missing.any():
        return block
    level = 0.0 if missing.all() else block[~missing].mean()
    return np.where(missing, level, block)


def as_tensor(block: Array) -> Tensor:
    """A tensor in float32 if that represents the dtype exactly, else in float64."""
    exact = np.can_cast(block.dtype, np.float32)
    return torch.from_numpy(block.astype(np.float32 if exact else np.float64))
