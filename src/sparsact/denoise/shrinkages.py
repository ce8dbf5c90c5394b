"""The shrinkage functions and their short names."""

from torch import Tensor

import sparsact.functional as SF
from sparsact._common.errors import unknown
from sparsact.denoise.block_shrinkage import Shrink
from sparsact.denoise.threshold_rules import Level


def firm(x: Tensor, lambd: Level) -> Tensor:
    """Firm shrinkage with the upper bound at twice the threshold."""
    return SF.firmshrink(x, lambd, 2 * lambd)


SHRINKS: dict[str, Shrink] = {
    "soft": SF.softshrink,
    "hard": SF.hardshrink,
    "firm": firm,
    "garrote": SF.garrote,
    "scad": SF.scad,
    "half": SF.halfshrink,
}


def shrink_function(shrink: str | Shrink) -> Shrink:
    """The function that an argument ``shrink=`` names."""
    if not isinstance(shrink, str):
        return shrink
    if shrink not in SHRINKS:
        raise unknown("shrink", shrink, SHRINKS)
    return SHRINKS[shrink]
