"""The arrays of a file, with their masks and maps, as they are denoised."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sparsact._common.errors import InputError
from sparsact.denoise.files import Content, format_of, read
from sparsact.denoise.files.file_content import Array
from sparsact.denoise.files.image_pixels import open_image

BITMAPS = {".png": "PNG", ".bmp": "BMP", ".gif": "GIF"}  # masks of these may have 1 bit per pixel


@dataclass(frozen=True)
class Layout:
    """What an array means; None: as its file says.

    Attributes:
        dims: the number of transformed dims.
        channel_dim: the dim of colours or tracks.
    """

    dims: int | None = None
    channel_dim: int | None = None

    def arrange(self, content: Content, path: Path) -> Content:
        """The content with these dims; a stack of images becomes a volume with 3.

        Raises:
            InputError: there are no such dims, or the file does not say what its dims mean.
        """
        shape, channel_dim, dims = content.blocks[0].shape, self.channel_dim, self.dims
        is_array = "channel_dim" in format_of(path).options
        if is_array:
            if dims is None and channel_dim is None and len(shape) > 1 and shape[-1] <= 4:
                raise InputError(
                    f"{path} has the shape {shape}: does the last dim hold colours or tracks? If "
                    "so, set channel_dim=-1 (for signals also dims=1), otherwise set dims="
                )
            if channel_dim is not None and not -len(shape) <= channel_dim < len(shape):
                raise InputError(
                    f"channel_dim={channel_dim} does not exist in {path} of shape {shape}"
                )
            content = replace(content, channel_dim=channel_dim)
        if dims is None:
            return content
        is_page = len(shape) - (content.channel_dim is not None) == content.dims == 2
        if is_page and dims == 3 and not is_array:
            return content.volume(path)
        return replace(content, dims=dims)


def hidden_by(path: Path, content: Content) -> list[Array]:
    """Where the values of each block are missing: where a file is 0.

    Raises:
        InputError: it has another shape.
    """
    return [values == 0 for values in _matching(_any_numbers(path), content, path, "mask")]


def sigma_map_of(path: Path, content: Content) -> list[Array]:
    """The standard deviation of the noise of each value, from a file.

    Raises:
        InputError: it has another shape, or a negative or missing entry.
    """
    maps = _matching([block.astype(np.float64) for block in read(path).blocks], content, path, "σ")
    for values in maps:
        if not (values >= 0).all():
            raise InputError(f"{path} has negative or missing entries; sigma= must not")
    return maps


def _any_numbers(path: Path) -> list[Array]:
    """The arrays of a file, also of truth values and of 1 bit per pixel."""
    if path.suffix.lower() == ".npy" and path.exists():
        values = np.load(path, allow_pickle=False)
        if values.dtype.kind in "buif":
            return [values]
    if path.suffix.lower() in BITMAPS and path.exists():
        with open_image(path, BITMAPS[path.suffix.lower()]) as image:
            if image.mode == "1":
                return [np.asarray(image)]
    return read(path).blocks


def _matching(arrays: list[Array], content: Content, path: Path, kind: str) -> list[Array]:
    """An array for each block, broadcast to its shape; one may serve all blocks."""
    blocks, channel = content.blocks, content.channel_dim
    if len(blocks) == 1 and len({array.shape for array in arrays}) == 1 < len(arrays):
        arrays = [np.stack(arrays)]
    if len(arrays) not in (1, len(blocks)):
        raise InputError(f"{path} holds {len(arrays)} images, and the file {len(blocks)}")
    matched: list[Array] = []
    for index, block in enumerate(blocks):
        array = arrays[index % len(arrays)]
        if channel is not None and array.ndim == block.ndim - 1:
            array = np.expand_dims(array, channel % block.ndim)
        sizes = zip(array.shape[::-1], block.shape[::-1], strict=False)
        places = [channel is not None and i == channel % block.ndim for i in range(block.ndim)]
        fits = all(
            a == b or (a == 1 and is_channel)
            for (a, b), is_channel in zip(sizes, places[::-1], strict=False)
        )
        if not fits or not content.dims <= array.ndim <= block.ndim:
            raise InputError(
                f"{path} has the shape {array.shape}, and the values have {block.shape}: the "
                f"{kind} must have an entry for each value"
            )
        matched.append(np.broadcast_to(array, block.shape))
    return matched
