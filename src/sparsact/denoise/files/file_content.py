"""The content of a file to denoise, and the declaration of a file format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact._common.errors import InputError
from sparsact.denoise.files.disk_array import release

Array = NDArray[Any]
AT_ONCE = 2**22  # numbers


@dataclass(frozen=True)
class Content:
    """The numbers of a file, in its own units.

    Attributes:
        blocks: the arrays to denoise, one per page; in the file's dtype.
        dims: the number of dims to transform: 1 for signals, 2 for images.
        channel_dim: dim of the colours or tracks of a block, or None.
        peak: the difference of the largest and the smallest possible value, for PSNR; None if
            the dtype has no such limits.
        write: writes blocks of the same shapes to a path and keeps everything else of the file.
        nodata: the number that stands for a missing value, or None. NaN is missing too.
        notes: what is not kept or changes as well, each in a few words.
        stack: the shape of the stack that the blocks form; None: (number of blocks,).
        depth: the dim of `stack` that counts the slices of a volume.
        hidden: for each block, where a mask says that a value is missing; or None.
    """

    blocks: list[Array]
    dims: int
    channel_dim: int | None
    peak: float | None
    write: Callable[[Path, list[Array]], None]
    nodata: float | None = None
    notes: tuple[str, ...] = ()
    stack: tuple[int, ...] | None = None
    depth: int = -1
    hidden: list[Array] | None = None

    def volume(self, path: Path) -> "Content":
        """The same with all blocks as one array, whose slices are transformed as well.

        Raises:
            InputError: it has a single block, or blocks of different shapes.
        """
        shape = self.blocks[0].shape
        if len(self.blocks) == 1 or any(block.shape != shape for block in self.blocks):
            raise InputError(f"dims={self.dims + 1} needs several images of one shape in {path}")
        leading = self.stack or (len(self.blocks),)
        last, depth = len(leading) - 1, self.depth % len(leading)
        whole = np.moveaxis(np.stack(self.blocks).reshape(*leading, *shape), depth, last)

        def write(target: Path, blocks: list[Array]) -> None:
            pages = np.moveaxis(blocks[0], last, depth).reshape(-1, *shape)
            self.write(target, list(pages))

        channel = None if self.channel_dim is None else self.channel_dim % len(shape) + last + 1
        return replace(self, blocks=[whole], dims=self.dims + 1, channel_dim=channel, write=write)

    @property
    def units(self) -> str:
        """The units of the numbers, in words."""
        dtype = self.blocks[0].dtype
        return f"{dtype}" if self.peak is None else f"{dtype} over a range of {self.peak:g}"

    def check_finite(self, path: Path) -> None:
        """Raise InputError at the first infinite number, or if there is no number."""
        for index, block in enumerate(self.blocks):
            if block.size == 0:
                raise InputError(f"{path} holds no numbers")
            if block.dtype.kind != "f" or all(np.isfinite(part).all() for part in pieces(block)):
                continue
            absent = self.absent(index)
            infinite = np.isinf(block) & (True if absent is None else ~absent)
            places = np.argwhere(infinite)
            if len(places):
                first = ", ".join(str(int(i)) for i in places[0])
                raise InputError(
                    f"{path} holds {block[tuple(places[0])]} at ({first}), and {len(places)} such "
                    "values in all; fill them first, or set nodata="
                )

    def absent(self, index: int) -> Array | None:
        """Where a block has no value, also by its mask; None if all are there."""
        block = self.blocks[index]
        hidden = None if self.hidden is None else self.hidden[index]
        if hidden is None and block.dtype.kind != "f" and self.nodata is None:
            return None
        if hidden is None and not any(self.missing(part).any() for part in pieces(block)):
            return None
        missing = self.missing(block) if hidden is None else self.missing(block) | hidden
        return missing if missing.any() else None

    def missing(self, block: Array) -> Array:
        """Where a block has no value: NaN, or the number for it."""
        absent: Array = np.isnan(block)
        if self.nodata is None:
            return absent
        marker: Any = self.nodata
        if block.dtype.kind == "f" and np.isfinite(marker):  # a text may round beyond the limits
            limits = np.finfo(block.dtype)
            marker = np.clip(marker, limits.min, limits.max).astype(block.dtype)
        absent |= block == marker
        return absent

    def save(self, path: Path, clean: list[Array]) -> None:
        """Write denoised blocks, rounded and clipped to the file's dtype.

        Missing values keep their bits, and no other value becomes the number for them.
        """
        self.write(path, [self._stored(index, block) for index, block in enumerate(clean)])

    def _stored(self, index: int, clean: Array) -> Array:
        old, absent = self.blocks[index], self.absent(index)
        new = clean if clean.dtype == old.dtype else cast(clean, old.dtype)
        if self.nodata is not None and old.dtype.kind in "ui":
            taken = new == self.nodata
            step = 1 if self.nodata < np.iinfo(old.dtype).max else -1
            changed = (new[taken].astype(np.float64) + step).astype(old.dtype)
            new = new.copy()
            new[taken] = changed
        return new if absent is None else np.where(absent, old, new)


@dataclass(frozen=True)
class FileFormat:
    """A file format, declared once.

    Attributes:
        name: as it is known.
        suffixes: of its files, in lower case.
        read: takes a path (and the column, if that is one of the options), and returns the
            content. Any exception that it raises means that the file is damaged.
        library: that reads and writes it.
        extra: that installs the library.
        keeps: what else of a file is kept, in words.
        loses: what is not.
        options: the arguments of denoising that only some formats take, this one included.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Content]
    library: str
    extra: str
    keeps: str
    loses: str = "–"
    options: tuple[str, ...] = ()


def pieces(block: Array) -> Iterator[Array]:
    """A block in parts along its first dim, of about `AT_ONCE` numbers."""
    step = max(1, AT_ONCE * len(block) // max(1, block.size))
    for start in range(0, len(block), step):
        yield block[start : start + step]
        release(block)


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """`values` in a dtype; integers are rounded and clipped to its range, NaN becomes 0."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(np.nan_to_num(values)), limits.min, limits.max)
    return values.astype(dtype)


def integer_peak(dtype: np.dtype[Any]) -> float | None:
    """The range of an integer dtype."""
    if not np.issubdtype(dtype, np.integer):
        return None
    limits = np.iinfo(dtype)
    return float(limits.max) - float(limits.min)
