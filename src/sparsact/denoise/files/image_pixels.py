"""Pixels that PNG and JPEG share: reading them with Pillow, and keeping alpha."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, integer_peak


def open_image(path: Path, kind: str) -> Any:
    """A Pillow image, completely read."""
    image = require("PIL.Image", "denoise").open(path, formats=[kind])
    image.load()
    return image


def pixels_of(image: Any, path: Path) -> Array:
    """The pixels of a Pillow image (H, W[, planes]); palettes become colours."""
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(f"{path} holds several images; denoise them one by one")
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        raise InputError(f"{path} has 1 bit per pixel; convert it to grey")
    elif "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    return np.asarray(image)


def pixel_content(pixels: Array, write: Callable[[Path, Array], None]) -> Content:
    """The colours as the block to denoise; alpha is written back unchanged."""
    planes = pixels.shape[2] if pixels.ndim == 3 else 1
    colours = pixels[..., :-1] if planes in (2, 4) else pixels
    alpha = pixels[..., -1:] if planes in (2, 4) else None

    def save(target: Path, blocks: list[Array]) -> None:
        clean = blocks[0] if alpha is None else np.concatenate([blocks[0], alpha], axis=2)
        write(target, clean)

    channel_dim = 2 if colours.ndim == 3 else None
    return Content([colours], 2, channel_dim, integer_peak(pixels.dtype), save)
