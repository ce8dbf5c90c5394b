"""PGM and PPM images, with their own largest value, which Pillow would scale to 8 or 16 bits."""

import re
from pathlib import Path

import numpy as np

from sparsact._common.errors import InputError
from sparsact.denoise.files.file_content import Array, Content, FileFormat
from sparsact.denoise.files.raw_numbers import RawNumbers, bytes_of, replace_numbers

SPACE = rb"(?:\s|#[^\n]*\n)+"  # with comments
HEADER = re.compile(rb"P([2356])" + SPACE + SPACE.join([rb"(\d+)"] * 3) + rb"\s")
HEADER_BYTES = 65536
PLANES = {2: 1, 5: 1, 3: 3, 6: 3}
TEXT = (2, 3)


def read_netpbm(path: Path) -> Content:
    """A grey or colour image of 8 or 16 bits, in bytes or as text."""
    raw = bytes_of(path)
    found = HEADER.match(raw[:HEADER_BYTES].tobytes())
    if found is None:
        raise InputError(f"{path} is no PGM or PPM with grey values or colours")
    kind, width, height, top = map(int, found.groups())
    shape = (height, width) if PLANES[kind] == 1 else (height, width, 3)
    place = RawNumbers(found.end(), np.dtype("u1" if top < 256 else ">u2"), shape)
    if kind in TEXT:
        numbers = np.array(raw[found.end() :].tobytes().split(), np.int64)
        pixels = numbers.reshape(shape).astype(place.dtype)
    else:
        pixels = place.within(raw)

    def write(target: Path, blocks: list[Array]) -> None:
        limited = np.minimum(blocks[0], top)
        if kind in TEXT:
            rows = limited.reshape(height, -1)
            lines = [b" ".join(b"%d" % value for value in row) for row in rows.tolist()]
            target.write_bytes(raw[: found.end()].tobytes() + b"\n".join(lines) + b"\n")
        else:
            replace_numbers(path, target, [place], [limited])

    return Content([pixels], 2, 2 if PLANES[kind] == 3 else None, float(top), write)


NETPBM = FileFormat(
    "PGM",
    (".pgm", ".ppm", ".pnm"),
    read_netpbm,
    library="NumPy",
    extra="",
    keeps="largest value, comments, coding in bytes or text",
)
