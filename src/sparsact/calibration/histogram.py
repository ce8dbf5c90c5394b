"""A histogram of scores of any size, in constant memory: a bin is the leading bits of a float."""

import torch
from torch import Tensor

_DROPPED_BITS = 16  # of a float32: 7 bits of mantissa stay, 128 bins between powers of two
_BINS = 1 << (31 - _DROPPED_BITS)
_FINITE = 255 << (23 - _DROPPED_BITS)  # from this bin on, values are infinite or NaN


class ScoreHistogram:
    """Counts of non-negative scores, from which quantiles can be read to within 0.8%."""

    def __init__(self) -> None:
        self.counts = torch.zeros(_BINS, dtype=torch.float64)

    def update(self, scores: Tensor) -> None:
        """Count every entry.

        Raises:
            ValueError: some are NaN or infinite.
        """
        positive = scores.detach().float().abs()  # a NaN may have a sign
        bits = positive.contiguous().view(torch.int32) >> _DROPPED_BITS
        found = torch.bincount(bits.flatten(), minlength=_BINS).cpu()
        if found[_FINITE:].any():
            raise ValueError("NaN or infinite")
        self.counts += found

    def shares(self) -> Tensor:
        """The counts as shares of all."""
        return self.counts / self.counts.sum()


def threshold_below(counts: Tensor, share: float) -> float:
    """The level that `share` of the counted scores do not exceed; 0 if so many are exactly 0."""
    reached = counts.cumsum(0)
    wanted = share * float(reached[-1])
    place = int(torch.searchsorted(reached, wanted))
    if place == 0 or wanted == 0:
        return 0.0
    low, high = (torch.tensor([place, place + 1], dtype=torch.int32) << _DROPPED_BITS).view(
        torch.float32
    )
    within = (wanted - float(reached[place - 1])) / float(counts[place])
    return float(low + within * (high - low))
