"""Large blocks of a file, tile by tile, with the result on disk."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sparsact._common.progress import Progress, silent
from sparsact.denoise.files.disk_array import new_array, release
from sparsact.denoise.files.file_content import Array, Content

TileDenoiser = Callable[[Array, Array, int, Progress], Any]
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


def in_tiles(
    block: Array, content: Content, denoise: TileDenoiser, progress: Progress | None
) -> Array:
    """The denoised block in its dtype; memory for a few tiles is used.

    Args:
        block: the noisy numbers.
        content: what its dims mean.
        denoise: writes the denoised numbers of its first argument to its second one.
        progress: called with the tiles that are done.
    """
    report = progress or silent
    clean = new_array(block.shape, block.dtype)

    def step(done: int, total: int, label: str) -> None:
        release(block)
        release(clean)
        report(done, total, label)

    channel = content.channel_dim
    noisy, out = block, clean
    if channel is not None:
        noisy, out = np.moveaxis(block, channel, 0), np.moveaxis(clean, channel, 0)
    denoise(noisy, out, content.dims, step)
    return clean
