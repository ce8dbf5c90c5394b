"""A histogram of a stream whose range is not known in advance."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

BINS = 128
SAMPLED_PER_CALL = 8192
CALLS_AT_ONCE = 32
"""On another device than the CPU, samples are read after so many calls; each read waits."""


@dataclass(frozen=True)
class Histogram:
    """Counts of the finite non-zero entries, in bins of equal width over [−limit, limit]."""

    limit: float
    counts: tuple[int, ...]

    @property
    def edges(self) -> list[float]:
        """The len(counts) + 1 edges of the bins."""
        width = 2 * self.limit / len(self.counts)
        return [-self.limit + width * i for i in range(len(self.counts) + 1)]


class StreamingHistogram:
    """A histogram that is updated tensor by tensor, and doubles its range when needed.

    Doubling merges pairs of neighbouring bins, so all counts stay exact. At most
    ``SAMPLED_PER_CALL`` entries of each tensor are read, at equal distances.
    """

    def __init__(self) -> None:
        self.limit = 0.0
        self.counts = torch.zeros(BINS, dtype=torch.int64, device="cpu")
        self._unread: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        """Count a sample of the entries of `x`."""
        sample = _spread_sample(x.detach()).to(torch.float32)
        if sample.device.type == "cpu":
            self._count(sample)
            return
        self._unread.append(sample.clone())  # a part of `x` would keep all of it in memory
        if len(self._unread) == CALLS_AT_ONCE:
            self._read()

    def _read(self) -> None:
        """Count the samples that are still on their device."""
        if self._unread:
            self._count(torch.cat([sample.cpu() for sample in self._unread]))
            self._unread.clear()

    def _count(self, sample: Tensor) -> None:
        sample = sample[(sample != 0) & sample.isfinite()]
        if sample.numel() == 0:
            return
        self._grow(float(sample.abs().max()))
        # the limit is a power of two, so float64 gives the bin of a float32 without rounding
        bins = torch.floor(sample.double() * (BINS / 2 / self.limit)).to(torch.int64) + BINS // 2
        # not in place: tensors made in inference mode cannot be changed in place outside of it
        self.counts = self.counts + torch.bincount(bins, minlength=BINS)

    def compute(self) -> Histogram:
        """The counts so far."""
        self._read()
        return Histogram(self.limit, tuple(self.counts.tolist()))

    def _grow(self, peak: float) -> None:
        """Set the limit to a power of two above `peak`: a value equal to it would change bins."""
        if self.limit == 0.0:
            self.limit = 2.0 ** math.frexp(peak)[1]
        while peak >= self.limit:
            merged = self.counts.reshape(BINS // 2, 2).sum(1)
            self.counts = pad(merged, (BINS // 4, BINS // 4))
            self.limit *= 2


def _spread_sample(x: Tensor) -> Tensor:
    """Every n-th entry, with n coprime to the size of the last dim, so that all units are read."""
    flat = x.reshape(-1)
    stride = max(1, -(-flat.numel() // SAMPLED_PER_CALL))
    while math.gcd(stride, x.shape[-1] if x.ndim else 1) > 1:
        stride += 1
    return flat[::stride]
