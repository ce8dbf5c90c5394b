"""Every block has the same sparsity, distributed greedily over its sites, as in TEAL."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sparsact.calibration.allocations.allocation import (
    Allocation,
    LevelRule,
    site_levels,
    thresholds_at,
)
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.model_forward import forward
from sparsact.calibration.score_histogram import Histograms
from sparsact.calibration.simulate import Simulation, below
from sparsact.calibration.sites import InputSite, enclosing_blocks
from sparsact.hooks import Taps, first_tensor

_STEP = 0.05  # of a block's weight bytes: the sparsity is given out in such portions

_Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword inputs


def block_rule(
    run: CalibrationRun, scales: Mapping[str, Tensor], histograms: Histograms, sparsity: float
) -> LevelRule:
    """Each site's quantile at the share that :func:`block_sparsity` gives it."""
    run.counter.label = "blocks"
    shares = block_sparsity(run, scales, histograms, sparsity)
    return lambda current: site_levels(current, shares)


def block_sparsity(
    run: CalibrationRun, scales: Mapping[str, Tensor], histograms: Histograms, sparsity: float
) -> dict[str, float]:
    """The sparsity of each site if every block has `sparsity`.

    Each step raises the one site of a block that changes the block's output least for the same
    number of bytes. The run's counter advances by the number of a block's sites.

    Source:
        Liu et al. 2024, "Training-free activation sparsity in large language models", alg. 1.
    """
    sites_by_block: dict[str, list[InputSite]] = {}
    calls = _block_calls(run)
    for site in run.sites:
        name = next(name for name in enclosing_blocks(site.name) if name in calls)
        sites_by_block.setdefault(name, []).append(site)
    shares: dict[str, float] = {}
    for name, sites in sites_by_block.items():
        block = _Block(run.model.get_submodule(name), name, calls[name], histograms, scales)
        shares |= block.greedy_shares(sites, sparsity)
        run.counter.advance(len(sites))
    return shares


class _Block:
    """A block's output with thresholds, compared with its dense output on the same input."""

    def __init__(
        self,
        module: nn.Module,
        name: str,
        call: _Call,
        histograms: Histograms,
        scales: Mapping[str, Tensor],
    ) -> None:
        self.module, self.prefix, self.call = module, f"{name}." if name else "", call
        self.histograms, self.scales = histograms, scales
        self.dense = self._output()

    def greedy_shares(self, sites: Sequence[InputSite], sparsity: float) -> dict[str, float]:
        share = {site.name: 0.0 for site in sites}
        total = sum(site.weights for site in sites)
        left = sparsity * total
        while left > 1e-6 * total:
            step = min(_STEP * total, left)
            increases = {
                site.name: min(step, (1 - share[site.name]) * site.weights) / site.weights
                for site in sites
                if share[site.name] < 1
            }
            errors = {
                name: self._error(sites, {**share, name: share[name] + increase})
                for name, increase in increases.items()
            }
            best = min(errors, key=errors.__getitem__)
            share[best] += increases[best]
            left -= increases[best] * next(site.weights for site in sites if site.name == best)
        return share

    def _error(self, sites: Sequence[InputSite], share: Mapping[str, float]) -> float:
        levels = site_levels(self.histograms, share)
        local_sites = [_within_block(site, self.prefix) for site in sites]
        thresholds = {
            local.name: thresholds_at(levels[site.name], self.scales[site.name])
            for site, local in zip(sites, local_sites, strict=True)
        }
        with Simulation(self.module, local_sites, below(thresholds)):
            return float((self._output() - self.dense).float().square().sum())

    def _output(self) -> Tensor:
        args, kwargs = tree_map(_copied, self.call)
        with torch.no_grad():
            output = first_tensor(self.module(*args, **kwargs))
        assert output is not None
        return output


def _within_block(site: InputSite, prefix: str) -> InputSite:
    """The same site with names relative to the block; a block that is one layer has no name.

    Readers in other blocks, such as those of an encoder's output, are left out.
    """
    readers = tuple(
        reader.removeprefix(prefix) for reader in site.readers if reader.startswith(prefix)
    )
    if prefix and site.name == prefix[:-1]:
        readers = ("",)
    return InputSite(readers[0], readers, site.inputs, site.outputs)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value  # a forward may change it in place


def _block_calls(run: CalibrationRun) -> dict[str, _Call]:
    """The inputs of each module that may be a block, in a dense forward of the first batch."""
    calls: dict[str, _Call] = {}

    def note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name not in calls:
            calls[name] = tree_map(_copied, (args, kwargs))

    names = {name for site in run.sites for name in enclosing_blocks(site.name)}
    modules = {name: run.model.get_submodule(name) for name in names}
    with Taps.on_inputs(modules, note), torch.no_grad():
        forward(run.model, run.first_batch)
    return calls


BLOCK = Allocation(
    "block", "evenly over the blocks, greedily within each (TEAL)", block_rule, steps_per_site=1
)
