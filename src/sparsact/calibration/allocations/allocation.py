"""How an allocation is declared, and what allocations share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.score_histogram import Histograms, level_below

Levels = dict[str, float]
"""By site, the score up to which an entry becomes zero."""

LevelRule = Callable[[Histograms], Levels]
"""Reads the levels from the sites' current scores."""


@dataclass(frozen=True)
class Allocation:
    """How a sparsity is distributed over the sites.

    Attributes:
        name: the value of ``allocate=`` in :func:`sparsact.calibration.calibrate`.
        help: completes "the sparsity is distributed …" in the help of the command line.
        rule: takes the run, the scales of the score, the dense model's scores and the sparsity,
            and returns the rule that gives the levels, now and when scores have changed.
        steps_per_site: how far that advances the run's counter for each site.
    """

    name: str
    help: str
    rule: Callable[[CalibrationRun, Mapping[str, Tensor], Histograms, float], LevelRule]
    steps_per_site: int = 0


def site_levels(histograms: Histograms, sparsity: Mapping[str, float]) -> Levels:
    """Each site's quantile at its own sparsity."""
    return {name: level_below(histograms[name].counts, share) for name, share in sparsity.items()}


def thresholds_at(level: float, scale: Tensor) -> Tensor:
    """λ_i such that ``|x_i|·c_i > level`` where ``|x_i| > λ_i``; finite also where c is 0."""
    largest = torch.finfo(torch.float32).max
    return torch.where(scale > 0, level / scale, largest).clamp(max=largest)
