"""Every site has the same sparsity."""

from collections.abc import Mapping

from torch import Tensor

from sparsact.calibration.allocations.allocation import Allocation, LevelRule, site_levels
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.score_histogram import Histograms


def uniform_rule(
    run: CalibrationRun, scales: Mapping[str, Tensor], histograms: Histograms, sparsity: float
) -> LevelRule:
    """Each site's quantile at `sparsity`."""
    shares = {site.name: sparsity for site in run.sites}
    return lambda current: site_levels(current, shares)


UNIFORM = Allocation("uniform", "evenly over all sites", uniform_rule)
