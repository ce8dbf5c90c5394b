"""One score level for the whole network: sites whose entries matter less get more zeros."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sparsact.calibration.allocations.allocation import Allocation, LevelRule, Levels
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.score_histogram import Histograms, level_below
from sparsact.calibration.sites import InputSite


def global_rule(
    run: CalibrationRun, scales: Mapping[str, Tensor], histograms: Histograms, sparsity: float
) -> LevelRule:
    """The quantile of all scores together at `sparsity`."""
    return lambda current: global_levels(run.sites, current, sparsity)


def global_levels(sites: Sequence[InputSite], histograms: Histograms, sparsity: float) -> Levels:
    """One level for all sites: scores up to it hold `sparsity` of all weights."""
    shares = [histograms[site.name].shares() * site.weights for site in sites]
    level = level_below(torch.stack(shares).sum(0), sparsity)
    return {site.name: level for site in sites}


GLOBAL = Allocation("global", "over the whole network by one score level", global_rule)
