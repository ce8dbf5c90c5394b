"""The sparsity that thresholds reach on some batches."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sparsact.calibration.batches import check_batches, no_batches
from sparsact.calibration.calibration_run import CalibrationRun, Thresholds
from sparsact.calibration.model_forward import unchanged
from sparsact.calibration.sites import InputSite


def byte_sparsity(sites: Iterable[InputSite], shares: Mapping[str, float]) -> float:
    """The mean of the sites' sparsities, weighted by their number of weights."""
    pairs = [(site.weights, shares[site.name]) for site in sites if site.name in shares]
    total = sum(weights for weights, _ in pairs)
    return sum(weights * share for weights, share in pairs) / total if total else float("nan")


def measured_sparsity(run: CalibrationRun, thresholds: Thresholds) -> dict[str, float]:
    """The share of zeros at each site with these thresholds, over all tokens that count.

    Raises:
        InputError: there are no batches, or no token counts.
    """
    check_batches(run.batches)
    zeros = {site.name: 0 for site in run.sites}
    entries = dict.fromkeys(zeros, 0)

    def count(site: InputSite, rows: Tensor, number: int) -> None:
        entries[site.name] += rows.numel()
        zeros[site.name] += rows.numel() - int(torch.count_nonzero(rows))

    with unchanged(run.model):
        run.watch(count, thresholds, after_zeros=True)
    if not any(entries.values()):
        raise no_batches("measure")
    return {name: zeros[name] / entries[name] for name in zeros if entries[name]}
