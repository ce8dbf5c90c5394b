"""The sparsity that thresholds have on some data."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sparsact.calibration.batches import (
    Batch,
    check_batches,
    counted,
    rows_of,
    run_to_head,
    unchanged,
)
from sparsact.calibration.simulate import Simulation, below
from sparsact.calibration.sites import InputSite
from sparsact.hooks import Taps


def byte_sparsity(sites: Iterable[InputSite], shares: dict[str, float]) -> float:
    """The mean of the sites' sparsities, each counted by its weights."""
    pairs = [(site.weights, shares[site.name]) for site in sites if site.name in shares]
    total = sum(weights for weights, _ in pairs)
    return sum(weights * share for weights, share in pairs) / total if total else float("nan")


def measure(
    model: nn.Module,
    sites: Iterable[InputSite],
    thresholds: dict[str, Tensor],
    batches: Iterable[Batch],
    keep_first: int = 0,
) -> dict[str, float]:
    """The share of zeros at each site under thresholds, over all tokens that are thresholded."""
    check_batches(batches)
    zeros = {site.name: 0 for site in sites}
    entries = dict.fromkeys(zeros, 0)
    kept: Tensor | None = None

    def count(name: str, x: Tensor) -> None:
        rows = rows_of(x, kept)
        entries[name] += rows.numel()
        zeros[name] += rows.numel() - int(torch.count_nonzero(rows))

    simulation = Simulation(model, sites, below(thresholds), keep_first)
    taps = Taps({name: model.get_submodule(name) for name in zeros}, count, "input")
    try:
        with unchanged(model), torch.no_grad():
            for batch in batches:
                kept = counted(batch, keep_first)
                run_to_head(model, batch)
    finally:
        taps.remove()
        simulation.remove()
    if not any(entries.values()):
        raise ValueError("there are no batches to measure on")
    return {name: zeros[name] / entries[name] for name in zeros if entries[name]}
