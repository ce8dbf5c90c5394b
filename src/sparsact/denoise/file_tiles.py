"""Large blocks of a file, tile by tile, with the result on disk."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from sparsact._common.progress import Progress, silent
from sparsact.denoise.files.disk_array import new_array, release
from sparsact.denoise.files.file_content import Array, Content
from sparsact.denoise.tiles import denoise_tiles

if TYPE_CHECKING:
    from sparsact.denoise.file_denoising import FileOptions

LARGE = {1: 2**22, 2: 2**24, 3: 2**24}  # numbers of a signal, image or volume to cut into tiles


def is_large(block: Array, content: Content, tile: int | None) -> bool:
    """Whether a block is cut into tiles: its signals, images or volumes are large."""
    if tile is not None or content.dims not in LARGE:
        return bool(tile) and content.dims in LARGE
    shape = list(block.shape)
    if content.channel_dim is not None:
        del shape[content.channel_dim]
    size = int(np.prod(shape[len(shape) - content.dims :], dtype=np.int64))
    return size > LARGE[content.dims]


def obstacle_to_tiles(options: "FileOptions", absent: Array | None) -> str | None:
    """What stands against tiles, in words; None if nothing does."""
    obstacles = {
        "missing values": absent is not None,
        f"noise={options.noise}": options.noise != "gaussian",
        "map or levels of sigma=": isinstance(options.sigma, (str, torch.Tensor)),
        f"threshold={options.threshold}": options.threshold in ("sure", "fdr"),
        f"border={options.border}": options.border != "mirror",
        "ycbcr=": options.ycbcr,
        "cycle_spins= other than all": options.cycle_spins != "all",
    }
    return next((name for name, stands in obstacles.items() if stands), None)


def in_tiles(
    block: Array, content: Content, options: "FileOptions", progress: Progress | None
) -> Array:
    """The denoised block in its dtype; memory for a few tiles is used."""
    report = progress or silent
    clean = new_array(block.shape, block.dtype)

    def step(done: int, total: int, label: str) -> None:
        release(block)
        release(clean)
        report(done, total, label)

    channel = content.channel_dim
    parts = [(block, clean)]
    if channel is not None:
        parts = [(np.moveaxis(block, channel, 0), np.moveaxis(clean, channel, 0))]
    assert not isinstance(options.sigma, (str, torch.Tensor))
    for noisy, out in parts:
        denoise_tiles(
            noisy,
            out,
            options.wavelet,
            options.levels,
            options.threshold,
            options.shrink,
            options.sigma,
            content.dims,
            tile=options.tile or None,
            progress=step,
        )
    return clean
