"""Integers that stand for other numbers: ``slope·stored + intercept``, as in FITS and NIfTI."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsact.denoise.files.file_content import cast

Array = NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """The line from stored numbers to those that they mean.

    Attributes:
        slope: not 0.
        intercept: what a stored 0 means.
    """

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_identity(self) -> bool:
        """Whether the stored numbers mean themselves."""
        return self.slope == 1 and self.intercept == 0

    def numbers(self, stored: Array, blank: float | None) -> Array:
        """What the stored numbers mean, in float64; `blank` means NaN."""
        values = stored * np.float64(self.slope) + self.intercept
        if blank is not None:
            values[stored == blank] = np.nan
        return values

    def restored(self, values: Array, stored: Array, blank: float | None) -> Array:
        """The numbers to store: the old ones where the new ones mean the same, or nothing."""
        new = cast((values - self.intercept) / self.slope, stored.dtype)
        if blank is not None:
            new[new == blank] += -1 if blank > 0 else 1
        return np.where(np.isnan(values), stored, new)
