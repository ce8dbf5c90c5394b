"""The pixels of an image file, as floats that keep its range and its transparency."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact._common.extras import require

WHOLE_RANGE = 65535  # of 16 bits


@dataclass(frozen=True)
class Pixels:
    """One image.

    Attributes:
        values: (height, width, 4) float32: red, green, blue and opacity. Colours are multiplied
            by the opacity, so that what cannot be seen is black.
        has_own_range: whether the file has floats or 32-bit integers, whose range is known only
            over all files.
        frames: how many images the file has; the first is read.
        reduced: whether 16 bits per colour were reduced to 8.
    """

    values: NDArray[np.float32]
    has_own_range: bool
    frames: int
    reduced: bool


def read_pixels(path: Path, size: int) -> Pixels:
    """Read an image and resize it to a square.

    Integers of 8 and 16 bits are scaled by the range of their type to [0, 1]; floats and integers
    of 32 bits are kept.

    Raises:
        InputError: it cannot be read.
    """
    pil, image_module = require("PIL", "compare"), require("PIL.Image", "compare")
    unreadable = (
        *(pil.UnidentifiedImageError, image_module.DecompressionBombError, OSError, SyntaxError),
        *(ValueError, EOFError, struct.error, TypeError, IndexError),
    )
    try:
        with _no_warnings(), image_module.open(path) as image:
            frames = int(getattr(image, "n_frames", 1))
            reduced = any("16" in str(tile[3]) for tile in image.tile) and image.mode == "RGB"
            has_own_range = image.mode == "F" or (image.mode == "I" and image.format != "PNG")
            upright = require("PIL.ImageOps", "compare").exif_transpose(image)
            values = _values(upright, size, image_module, has_own_range)
    except unreadable as error:
        raise InputError(f"{path} is not a readable image: {error}") from error
    if not np.isfinite(values).all():
        raise InputError(f"{path} is not a readable image: it has pixels that are not finite")
    return Pixels(values, has_own_range, frames, reduced)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """A block in which Pillow does not warn about metadata; what the pixels lack is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _values(image: Any, size: int, image_module: Any, has_own_range: bool) -> NDArray[np.float32]:
    """(size, size, 4) float32."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        plane = np.asarray(image, np.float32)
        if not has_own_range:
            plane = plane / np.float32(WHOLE_RANGE)
        resized = np.asarray(image_module.fromarray(plane).resize((size, size)), np.float32)
        opaque = np.ones_like(resized)
        return np.stack([resized, resized, resized, opaque], -1)
    if image.mode == "PA" or "transparency" in image.info or image.mode in ("LA", "RGBA", "La"):
        image = image.convert("RGBA")
    if image.mode != "RGBA":
        colours = np.asarray(image.convert("RGB").resize((size, size)), np.float32)
        colours = colours / np.float32(255)
        return np.concatenate([colours, np.ones_like(colours[..., :1])], -1)
    colours = np.asarray(image.convert("RGBa").resize((size, size)), np.float32)
    return colours / np.float32(255)
