"""Pixels that Pillow reads: colours to denoise, and alpha, which is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, integer_peak


@contextmanager
def open_image(path: Path, *kinds: str) -> Iterator[Any]:
    """A Pillow image, completely read; images of any size are read."""
    module: Any = require("PIL.Image", "denoise")
    limit = module.MAX_IMAGE_PIXELS
    module.MAX_IMAGE_PIXELS = None  # files of the user, not from the web
    try:
        with module.open(path, formats=kinds) as image:
            image.load()
            yield image
    finally:
        module.MAX_IMAGE_PIXELS = limit


def frames_of(image: Any, path: Path) -> list[Array]:
    """The pixels (H, W[, planes]) of each frame; palettes become colours.

    If one frame has alpha, the others have it too.
    """
    frames = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        frames.append(_unpacked(image, path))
    bands = {band for frame in frames for band in frame.getbands()}
    if len(frames) > 1:
        mode = "RGB" if "R" in bands else "L"
        mode += "A" if "A" in bands else ""
        frames = [frame.convert(mode) for frame in frames]
    return [np.asarray(frame) for frame in frames]


def _unpacked(image: Any, path: Path) -> Any:
    """The current frame without a palette."""
    if image.mode == "1":
        raise InputError(f"{path} has 1 bit per pixel; convert it to grey")
    if image.mode in ("P", "PA"):
        clear = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if clear else "RGB")
    if "transparency" in image.info and image.mode in ("L", "RGB"):
        return image.convert("LA" if image.mode == "L" else "RGBA")
    return image.copy()


def durations_of(image: Any) -> list[float]:
    """How long each frame is shown, in ms."""
    durations = []
    for number in range(image.n_frames):
        image.seek(number)
        image.load()
        durations.append(image.info.get("duration", 0))
    return durations


def pixel_content(
    frames: list[Array], write: Callable[[Path, list[Array]], None], notes: tuple[str, ...] = ()
) -> Content:
    """The colours as the blocks to denoise; alpha is written back unchanged."""
    planes = frames[0].shape[2] if frames[0].ndim == 3 else 1
    has_alpha = planes in (2, 4)
    colours = [pixels[..., :-1] if has_alpha else pixels for pixels in frames]

    def save(target: Path, blocks: list[Array]) -> None:
        if has_alpha:
            pairs = zip(blocks, frames, strict=True)
            blocks = [np.concatenate([block, pixels[..., -1:]], axis=2) for block, pixels in pairs]
        write(target, blocks)

    channel_dim = 2 if colours[0].ndim == 3 else None
    return Content(colours, 2, channel_dim, integer_peak(frames[0].dtype), save, notes=notes)


def image_of(pixels: Array) -> Any:
    """A Pillow image of pixels (H, W[, planes])."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return require("PIL.Image", "denoise").fromarray(np.ascontiguousarray(pixels))
