"""PNG images."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.image_pixels import (
    durations_of,
    frames_of,
    image_of,
    open_image,
    pixel_content,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# chunks that describe how the pixels are coded and shown; all others are copied
CODING = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT", b"acTL", b"fcTL", b"fdAT"}
PALETTE = 3  # the type of colour of such a PNG
SHOWN = ("loop", "default_image")

Chunk = tuple[bytes, bytes]


def read_png(path: Path) -> Content:
    """A PNG of 8 or 16 bits, grey or colour, with or without alpha; palettes become RGB.

    An animation is read frame by frame.
    """
    data = path.read_bytes()
    chunks = list(_chunks(data))
    depth = chunks[0][1][8]
    timing: dict[str, Any] = {}
    if depth < 16:
        with open_image(path, "PNG") as image:
            frames = frames_of(image, path)
            if len(frames) > 1:
                timing = {key: image.info[key] for key in SHOWN if key in image.info}
                timing |= {"duration": durations_of(image), "save_all": True}
    elif any(kind == b"acTL" for kind, _ in chunks):
        raise InputError(f"{path} is an animation of 16 bits; convert it to 8 bits")
    else:
        frames = [_read_16_bits(data)]

    def write(target: Path, pages: list[Array]) -> None:
        encoded = list(_chunks(_encode(pages, timing)))
        recoded = encoded[0][1][8:10] != chunks[0][1][8:10]  # another depth or colour type
        dropped = CODING | {b"bKGD"} if recoded else CODING
        copied = [chunk for chunk in chunks if chunk[0] not in dropped]
        target.write_bytes(
            SIGNATURE + b"".join(_packed(chunk) for chunk in [encoded[0], *copied, *encoded[1:]])
        )

    notes = ("not kept: the palette",) if chunks[0][1][9] == PALETTE else ()
    if depth < 8 and not notes:
        notes = (f"not kept: the depth of {depth} bits",)
    return pixel_content(frames, write, notes)


def _read_16_bits(data: bytes) -> Array:
    """The pixels of 16 bits per sample, which Pillow would reduce to 8 in colour images."""
    width, height, rows, info = require("png", "denoise").Reader(bytes=data).asDirect()
    flat = np.vstack([np.asarray(row, np.uint16) for row in rows])
    pixels = flat.reshape(height, width, info["planes"])
    return pixels[..., 0] if info["planes"] == 1 else pixels


def _encode(frames: list[Array], timing: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pixels = frames[0]
    if pixels.dtype == np.uint8:
        first, *others = map(image_of, frames)
        more = {"append_images": others} if others else {}
        first.save(buffer, format="PNG", **timing, **more)
        return buffer.getvalue()
    planes = pixels.shape[2] if pixels.ndim == 3 else 1
    height, width = pixels.shape[:2]
    writer = require("png", "denoise").Writer(
        width, height, greyscale=planes < 3, alpha=planes in (2, 4), bitdepth=16
    )
    writer.write(buffer, pixels.reshape(height, -1))
    return buffer.getvalue()


def _chunks(data: bytes) -> Iterator[Chunk]:
    if not data.startswith(SIGNATURE):
        raise ValueError("it does not start with the signature of a PNG")
    place = len(SIGNATURE)
    while place < len(data):
        head = data[place : place + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        if place + 12 + length > len(data):
            raise ValueError("it is cut off")
        yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length


def _packed(chunk: Chunk) -> bytes:
    kind, body = chunk
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG = FileFormat(
    "PNG",
    (".png",),
    read_png,
    library="Pillow, pypng",
    extra="denoise",
    keeps="depth, alpha, all chunks (text, EXIF, colour profile), frames of an animation",
    loses="palettes and depths below 8 bits",
)
