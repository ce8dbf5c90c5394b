"""Histograms of scores of any size in constant memory; a bin is the leading bits of a float."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.calibration.calibration_run import CalibrationRun, Thresholds
from sparsact.calibration.sites import InputSite

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
            InputError: some are NaN or infinite.
        """
        positive = scores.detach().float().abs()  # a NaN may have a sign
        bits = positive.contiguous().view(torch.int32) >> _DROPPED_BITS
        counts = torch.bincount(bits.flatten(), minlength=_BINS).cpu()
        if counts[_FINITE:].any():
            raise InputError("NaN or infinite")
        self.counts += counts

    def shares(self) -> Tensor:
        """The counts divided by their sum."""
        return self.counts / self.counts.sum()


Histograms = Mapping[str, ScoreHistogram]
"""The scores of each site by its name."""


def score_histograms(
    run: CalibrationRun,
    scales: Mapping[str, Tensor],
    thresholds: Thresholds | None = None,
    *,
    stride: int = 1,
) -> dict[str, ScoreHistogram]:
    """The distribution of ``|x_i|·c_i`` at each site, over all tokens that count.

    Args:
        run: the model and the batches.
        scales: c of each site, (inputs,).
        thresholds: look at the sparse model, at each site before its own zeros.
        stride: use every batch, every second one, and so on.

    Raises:
        InputError: activations are NaN or infinite; the message names the site.
    """
    histograms = {site.name: ScoreHistogram() for site in run.sites}

    def count(site: InputSite, rows: Tensor, number: int) -> None:
        scores = rows.abs().float() * scales[site.name].to(rows.device)
        try:
            histograms[site.name].update(scores)
        except InputError as error:
            raise not_finite(site, number) from error

    run.watch(count, thresholds, stride=stride)
    return histograms


def not_finite(site: InputSite, number: int) -> InputError:
    """The error for activations at a site in a batch."""
    return InputError(f"activations are NaN or infinite at {site.label}, in batch {number}")


def level_below(counts: Tensor, share: float) -> float:
    """The level that `share` of the counted scores do not exceed; 0 if that many are exactly 0."""
    cumulated = counts.cumsum(0)
    rank = share * float(cumulated[-1])
    place = int(torch.searchsorted(cumulated, rank))
    if place == 0 or rank == 0:
        return 0.0
    low, high = (torch.tensor([place, place + 1], dtype=torch.int32) << _DROPPED_BITS).view(
        torch.float32
    )
    within = (rank - float(cumulated[place - 1])) / float(counts[place])
    return float(low + within * (high - low))
