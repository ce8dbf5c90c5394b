"""A histogram of a stream whose range is not known beforehand."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

BINS = 128
SAMPLED_PER_CALL = 8192


@dataclass(frozen=True)
class Histogram:
    """Counts of the finite non-zero entries in equal bins over [−limit, limit]."""

    limit: float
    counts: tuple[int, ...]

    @property
    def edges(self) -> list[float]:
        """The len(counts) + 1 edges of the bins."""
        width = 2 * self.limit / len(self.counts)
        return [-self.limit + width * i for i in range(len(self.counts) + 1)]


class StreamingHistogram:
    """Takes tensors one after another; doubles its range when a value lies outside.

    Doubling merges pairs of neighbouring bins, so no count is ever approximated. Of each tensor
    at most ``SAMPLED_PER_CALL`` entries are read, evenly spread.
    """

    def __init__(self) -> None:
        self.limit = 0.0
        self.counts = torch.zeros(BINS, dtype=torch.int64)

    def update(self, x: Tensor) -> None:
        """Count a sample of the entries of `x`."""
        sample = _spread_sample(x.detach()).to(torch.float32)
        sample = sample[(sample != 0) & sample.isfinite()].cpu()
        if sample.numel() == 0:
            return
        self._grow(float(sample.abs().max()))
        # the limit is a power of two: in float64 the bin of a float32 is found without rounding
        found = torch.floor(sample.double() * (BINS / 2 / self.limit)).to(torch.int64) + BINS // 2
        # not in place: what was made in inference mode may be changed in place nowhere else
        self.counts = self.counts + torch.bincount(found, minlength=BINS)

    def compute(self) -> Histogram:
        """The counts so far."""
        return Histogram(self.limit, tuple(self.counts.tolist()))

    def _grow(self, peak: float) -> None:
        """Make the limit a power of two above `peak`: on it, a value would change bins later."""
        if self.limit == 0.0:
            self.limit = 2.0 ** math.frexp(peak)[1]
        while peak >= self.limit:
            merged = self.counts.reshape(BINS // 2, 2).sum(1)
            self.counts = pad(merged, (BINS // 4, BINS // 4))
            self.limit *= 2


def _spread_sample(x: Tensor) -> Tensor:
    """Every n-th entry, n without a common divisor with the last dim: no unit is favoured."""
    flat = x.reshape(-1)
    stride = max(1, -(-flat.numel() // SAMPLED_PER_CALL))
    while math.gcd(stride, x.shape[-1] if x.ndim else 1) > 1:
        stride += 1
    return flat[::stride]
