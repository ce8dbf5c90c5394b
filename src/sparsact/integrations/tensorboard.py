"""The scalars and histograms of meters and penalties, and how TensorBoard logs them."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from sparsact.meters import Histogram, LayerStats, SparsityMeter
from sparsact.penalties import ActivationPenalty

_SCALARS = ("density", "l0", "dead", "mean_magnitude")


class Writer(Protocol):
    """The methods of ``torch.utils.tensorboard.SummaryWriter`` that are used here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Log a number."""

    def add_histogram_raw(
        self,
        tag: str,
        *,
        min: float,
        max: float,
        num: int,
        sum: float,
        sum_squares: float,
        bucket_limits: list[float],
        bucket_counts: list[int],
        global_step: int,
    ) -> None:
        """Log counts in bins."""


def write_tensorboard(writer: Writer, meter: SparsityMeter, step: int) -> None:
    """Log the statistics of `meter`, per layer: scalars and a histogram of non-zero entries.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``.
        meter: the meter. It is not reset; call ``meter.reset()`` to begin a new window.
        step: the step of training.

    Raises:
        RuntimeError: none of the metered modules has run.
    """
    stats = meter.compute()
    for tag, value in meter_scalars(stats).items():
        writer.add_scalar(tag, value, step)
    write_histograms(writer, stats, step)


def meter_scalars(stats: Mapping[str, LayerStats]) -> dict[str, float]:
    """Tag → value, for every layer."""
    return {
        f"sparsity/{name or 'model'}/{key}": float(getattr(layer, key))
        for name, layer in stats.items()
        for key in _SCALARS
    }


def penalty_scalars(penalties: Iterable[ActivationPenalty]) -> dict[str, float]:
    """Tag → value: the sum of the penalties of the last forward, and each coefficient."""
    penalties = list(penalties)
    if not penalties:
        return {}
    scalars = {"penalty/value": sum(float(penalty()) for penalty in penalties)}
    for penalty in penalties:
        for name, coefficient in penalty.coefficients.items():
            scalars[f"penalty/{name or 'model'}/coefficient"] = coefficient
    return scalars


def write_histograms(writer: Writer, stats: Mapping[str, LayerStats], step: int) -> None:
    """Log the histogram of every layer that has non-zero entries."""
    for tag, histogram in histograms(stats):
        counts, edges = list(histogram.counts), histogram.edges
        middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
        writer.add_histogram_raw(
            tag,
            min=edges[0],
            max=edges[-1],
            num=sum(counts),
            sum=sum(count * x for count, x in zip(counts, middles, strict=True)),
            sum_squares=sum(count * x * x for count, x in zip(counts, middles, strict=True)),
            bucket_limits=edges[1:],
            bucket_counts=counts,
            global_step=step,
        )


def histograms(stats: Mapping[str, LayerStats]) -> Iterator[tuple[str, Histogram]]:
    """The tag and the histogram of every layer that has non-zero entries."""
    for name, layer in stats.items():
        if any(layer.histogram.counts):
            yield f"sparsity/{name or 'model'}/nonzero", layer.histogram
