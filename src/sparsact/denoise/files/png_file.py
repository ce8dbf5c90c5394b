"""PNG and JPEG."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.extras import require
from sparsact.denoise.files.content import Array, Content, FileError, integer_peak

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# chunks that say how the pixels are coded; all others are carried over as they are
CODING = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT"}

Chunk = tuple[bytes, bytes]


def read_png(path: Path) -> Content:
    """A PNG of 8 or 16 bits, grey or colour, with or without alpha; palettes become RGB."""
    data = path.read_bytes()
    chunks = list(_chunks(data))
    depth = chunks[0][1][8]
    if depth == 16:
        pixels = _read_deep(data)
    else:
        with _open(path, "PNG") as image:
            pixels = _pixels(image, path)

    def write(target: Path, colours: Array) -> None:
        encoded = list(_chunks(_encode_png(colours)))
        recoded = encoded[0][1][8:10] != chunks[0][1][8:10]  # another depth or colour type
        dropped = CODING | {b"bKGD"} if recoded else CODING
        others = [chunk for chunk in chunks if chunk[0] not in dropped]
        target.write_bytes(
            SIGNATURE + b"".join(_packed(chunk) for chunk in [encoded[0], *others, *encoded[1:]])
        )

    return _content(pixels, write)


def read_jpeg(path: Path) -> Content:
    """A JPEG; it is written with its own quantisation, subsampling, EXIF and profile."""
    plugin = require("PIL.JpegImagePlugin", "denoise")
    image_module = require("PIL.Image", "denoise")
    with _open(path, "JPEG") as image:
        pixels = _pixels(image, path)
        mode = image.mode
        options: dict[str, Any] = {
            "qtables": image.quantization,
            "subsampling": plugin.get_sampling(image),
            "progressive": bool(image.info.get("progressive")),
        }
        options |= {
            key: image.info[key]
            for key in ("exif", "icc_profile", "dpi", "comment", "xmp")
            if key in image.info
        }

    def write(target: Path, colours: Array) -> None:
        image_module.fromarray(colours, mode=None).convert(mode).save(
            target, format="JPEG", **options
        )

    if mode == "CMYK":
        raise FileError(f"{path} is a CMYK JPEG; convert it to RGB")
    return _content(pixels, write)


def _content(pixels: Array, write: Any) -> Content:
    """Colours to denoise; alpha is put back as it was."""
    planes = pixels.shape[2] if pixels.ndim == 3 else 1
    colours = pixels[..., :-1] if planes in (2, 4) else pixels
    alpha = pixels[..., -1:] if planes in (2, 4) else None

    def save(target: Path, blocks: list[Array]) -> None:
        whole = blocks[0] if alpha is None else np.concatenate([blocks[0], alpha], axis=2)
        write(target, whole)

    channel_dim = 2 if colours.ndim == 3 else None
    return Content([colours], 2, channel_dim, integer_peak(pixels.dtype), save)


def _open(path: Path, kind: str) -> Any:
    image = require("PIL.Image", "denoise").open(path, formats=[kind])
    image.load()
    return image


def _pixels(image: Any, path: Path) -> Array:
    if getattr(image, "n_frames", 1) > 1:
        raise FileError(f"{path} holds several images; denoise them one by one")
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        raise FileError(f"{path} has 1 bit per pixel; convert it to grey")
    elif "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    return np.asarray(image)


def _read_deep(data: bytes) -> Array:
    """16 bits per sample: Pillow would cut colours to 8."""
    width, height, rows, info = require("png", "denoise").Reader(bytes=data).asDirect()
    flat = np.vstack([np.asarray(row, np.uint16) for row in rows])
    pixels = flat.reshape(height, width, info["planes"])
    return pixels[..., 0] if info["planes"] == 1 else pixels


def _encode_png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    if pixels.dtype == np.uint8:
        require("PIL.Image", "denoise").fromarray(pixels).save(buffer, format="PNG")
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
        raise ValueError("it does not begin as one")
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
