"""What every format is read into."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class FileError(ValueError):
    """A file that cannot be read or written; the message is one line that names it."""


@dataclass(frozen=True)
class Content:
    """The numbers of a file, in its own units.

    Attributes:
        blocks: the arrays to denoise, one per page; in the file's dtype.
        dims: the dims to transform: 1 for signals, 2 for images.
        channel_dim: dim of the colours or tracks of a block, or None.
        peak: the largest possible value less the smallest, for PSNR; None if the dtype has none.
        write: writes blocks of the same shapes to a path, with everything else as it was.
    """

    blocks: list[Array]
    dims: int
    channel_dim: int | None
    peak: float | None
    write: Callable[[Path, list[Array]], None]

    @property
    def units(self) -> str:
        """What the numbers are, in words."""
        dtype = self.blocks[0].dtype
        return f"{dtype}" if self.peak is None else f"{dtype} over a range of {self.peak:g}"

    def check_finite(self, path: Path) -> None:
        """Raise FileError at the first number that is NaN or infinite."""
        for block in self.blocks:
            if block.size == 0:
                raise FileError(f"{path} holds no numbers")
            bad = np.argwhere(~np.isfinite(block))
            if len(bad):
                place = ", ".join(str(int(i)) for i in bad[0])
                raise FileError(
                    f"{path} holds {block[tuple(bad[0])]} at ({place}), and {len(bad)} such "
                    "values in all; fill them first"
                )

    def save(self, path: Path, clean: list[Array]) -> None:
        """Write denoised blocks, rounded and clipped to the file's dtype."""
        self.write(
            path,
            [cast(new, old.dtype) for new, old in zip(clean, self.blocks, strict=True)],
        )


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """`values` in a dtype; integers are rounded and clipped to what it can hold."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def integer_peak(dtype: np.dtype[Any]) -> float | None:
    """The range of an integer dtype."""
    if not np.issubdtype(dtype, np.integer):
        return None
    limits = np.iinfo(dtype)
    return float(limits.max) - float(limits.min)
