"""Numbers that lie in a file as they are: read without a copy, and replaced in a copy of it."""

import gzip
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact.denoise.files.disk_array import release

Array = NDArray[Any]
ROWS_AT_ONCE = 2**22  # numbers that are converted at once


@dataclass(frozen=True)
class RawNumbers:
    """The place of an array in a file.

    Attributes:
        offset: its first byte.
        dtype: with the byte order.
        shape: in the order of the file, the slowest dim first.
    """

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def within(self, raw: Array) -> Array:
        """The numbers in the bytes of a file.

        Raises:
            ValueError: the file ends before them.
        """
        size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        if self.offset + size > len(raw):
            raise ValueError(f"it is cut off: {self.offset + size - len(raw)} bytes are missing")
        return raw[self.offset : self.offset + size].view(self.dtype).reshape(self.shape)


def bytes_of(path: Path) -> Array:
    """The bytes of a file, as a memory map, or unpacked if it ends in .gz."""
    if path.suffix.lower() == ".gz":
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r"))


def replace_numbers(
    source: Path, target: Path, places: Sequence[RawNumbers], arrays: Sequence[Array]
) -> None:
    """Write a copy of `source` with other numbers; all other bytes are kept."""
    if source.suffix.lower() == ".gz":
        raw = bytes_of(source).copy()
        for place, array in zip(places, arrays, strict=True):
            place.within(raw)[...] = array
        target.write_bytes(gzip.compress(raw.tobytes(), mtime=0))
        return
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for place, array in zip(places, arrays, strict=True):
            file.seek(place.offset)
            flat = array.reshape(-1)
            for start in range(0, flat.size, ROWS_AT_ONCE):
                file.write(flat[start : start + ROWS_AT_ONCE].astype(place.dtype).tobytes())
                release(array)
