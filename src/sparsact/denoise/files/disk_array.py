"""Arrays too large for memory: maps of files without a name, which vanish with the process."""

import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LARGE = 2**24  # numbers from which an array lies on disk


def new_array(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array to fill; a large one lies in a file of the folder for temporary files (TMPDIR).

    Raises:
        OSError: the disk has no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size < LARGE:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="sparsact-") as file:
        _reserve(file.fileno(), size * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, "r+", shape=shape)


def _reserve(descriptor: int, size: int) -> None:
    """Make a file so large; where the system can, its room on the disk is taken at once."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def release(array: Array) -> None:
    """Let the system take back the memory of a map; its numbers stay on disk."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
