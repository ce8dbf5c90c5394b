"""Whether a difference from ReLU is more than the noise of the seeds."""

import statistics
import warnings
from collections.abc import Mapping, Sequence

from sparsact._common.extras import require


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None for a single value."""
    if len(values) < 2:
        return None
    return float(statistics.stdev(values) / len(values) ** 0.5)


def paired_p_values(
    scores: Mapping[str, Mapping[int, float]], reference: str | None
) -> dict[str, float]:
    """Test the scores of each setting against those of the reference, seed by seed.

    Args:
        scores: label → seed → score.
        reference: the label of the reference.

    Returns:
        label → p-value of the paired t-test, adjusted for the number of tests by Benjamini and
        Hochberg. Settings with fewer than two seeds in common with the reference have none, nor
        have those whose differences are all the same, of which the test says nothing.
    """
    base = scores.get(reference, {}) if reference is not None else {}
    values: dict[str, float] = {}
    for label, own in scores.items():
        seeds = sorted(set(own) & set(base))
        gains = [own[seed] - base[seed] for seed in seeds]
        if label == reference or len(gains) < 2:
            continue
        if max(gains) == min(gains):
            if gains[0] == 0:
                values[label] = 1.0
            continue
        values[label] = _p_value([own[seed] for seed in seeds], [base[seed] for seed in seeds])
    if not values:
        return {}
    adjusted = require("scipy.stats", "compare").false_discovery_control(list(values.values()))
    return dict(zip(values, map(float, adjusted), strict=True))


def _p_value(own: list[float], base: list[float]) -> float:
    with warnings.catch_warnings():  # of differences that are nearly the same
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(require("scipy.stats", "compare").ttest_rel(own, base).pvalue)
