"""A scene, noise, and files to denoise."""

import struct
import zlib
from pathlib import Path

import numpy as np

from sparsact.cli.denoise_command import DenoiseFlags, denoise


def scene(planes: int = 0, top: int = 255, size: tuple[int, int] = (48, 56)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    grey = np.where((x > 20) ^ (y > 24), 0.75, 0.25)
    image = grey if planes == 0 else np.stack([grey * (1 - 0.1 * i) for i in range(planes)], -1)
    return np.rint(top * image).astype(np.uint8 if top == 255 else np.uint16)


def noisy(image: np.ndarray, share: float = 0.06) -> np.ndarray:
    top = np.iinfo(image.dtype).max
    noise = share * top * np.random.default_rng(0).standard_normal(image.shape)
    return np.clip(np.rint(image + noise), 0, top).astype(image.dtype)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(float) - b.astype(float)).mean())


def call(source: Path, target: Path, **flags: object) -> int:
    return denoise(DenoiseFlags(str(source), str(target), **flags))


def write_png(path: Path, image: np.ndarray, extra: bytes = b"") -> None:
    """Write what Pillow cannot: colours of 16 bits, with an extra chunk before the pixels."""
    planes = image.shape[2] if image.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[planes]
    depth = 8 * image.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", extra), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )
