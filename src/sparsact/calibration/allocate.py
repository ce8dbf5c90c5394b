"""Sharing a sparsity out over sites: how high the level of each site's scores is to be."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sparsact.calibration.batches import Batch, run
from sparsact.calibration.histogram import ScoreHistogram, threshold_below
from sparsact.calibration.simulate import Simulation, below
from sparsact.calibration.sites import InputSite
from sparsact.hooks import first_tensor

ALLOCATIONS = ("uniform", "block", "global")
Histograms = Mapping[str, ScoreHistogram]
Levels = dict[str, float]

_STEP = 0.05  # of a block's weight bytes, in which its sparsity is handed out


def uniform_levels(histograms: Histograms, sparsity: Mapping[str, float]) -> Levels:
    """Each site's quantile at its own sparsity."""
    return {
        name: threshold_below(histograms[name].counts, share) for name, share in sparsity.items()
    }


def global_levels(sites: Sequence[InputSite], histograms: Histograms, sparsity: float) -> Levels:
    """One level for all sites: scores up to it hold `sparsity` of all weights."""
    shares = [histograms[site.name].shares() * site.weights for site in sites]
    level = threshold_below(torch.stack(shares).sum(0), sparsity)
    return {site.name: level for site in sites}


def block_sparsity(
    model: nn.Module,
    sites: Sequence[InputSite],
    histograms: Histograms,
    scales: Mapping[str, Tensor],
    batch: Batch,
    sparsity: float,
    done: Callable[[int], None],
) -> dict[str, float]:
    """The sparsity of each site when every block has `sparsity`, shared out greedily within it.

    Each step raises the one site of a block that changes the block's output least, for as many
    bytes. `done` is called after each block with the number of its sites.

    Source:
        Liu et al. 2024, "Training-free activation sparsity in large language models", alg. 1.
    """
    blocks: dict[str, list[InputSite]] = {}
    calls = _calls(model, {name for site in sites for name in blocks_around(site.name)}, batch)
    for site in sites:
        name = next(name for name in blocks_around(site.name) if name in calls)
        blocks.setdefault(name, []).append(site)
    chosen: dict[str, float] = {}
    for name, members in blocks.items():
        block = _Block(model.get_submodule(name), name, calls[name], histograms, scales)
        chosen |= block.share_out(members, sparsity)
        done(len(members))
    return chosen


def blocks_around(name: str) -> list[str]:
    """Which modules may be the block of a layer, the widest first.

    That up to the first number in its name; where that is a mere list which nothing calls, the next
    ones within. The whole model, where the name has no number.
    """
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return [""]
    return [".".join(parts[:stop]) for stop in range(numbers[0] + 1, len(parts) + 1)]


class _Block:
    """A block's output under thresholds, against its dense output on the same input."""

    def __init__(
        self,
        module: nn.Module,
        name: str,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        histograms: Histograms,
        scales: Mapping[str, Tensor],
    ) -> None:
        self.module, self.prefix, self.call = module, f"{name}." if name else "", call
        self.histograms, self.scales = histograms, scales
        self.dense = self._output()

    def share_out(self, sites: Sequence[InputSite], sparsity: float) -> dict[str, float]:
        share = {site.name: 0.0 for site in sites}
        total = sum(site.weights for site in sites)
        left = sparsity * total
        while left > 1e-6 * total:
            step = min(_STEP * total, left)
            raised = {
                site.name: min(step, (1 - share[site.name]) * site.weights) / site.weights
                for site in sites
                if share[site.name] < 1
            }
            errors = {
                name: self._error(sites, {**share, name: share[name] + by})
                for name, by in raised.items()
            }
            best = min(errors, key=errors.__getitem__)
            share[best] += raised[best]
            left -= raised[best] * next(site.weights for site in sites if site.name == best)
        return share

    def _error(self, sites: Sequence[InputSite], share: Mapping[str, float]) -> float:
        levels = uniform_levels(self.histograms, share)
        local = [_within(site, self.prefix) for site in sites]
        thresholds = {
            inner.name: thresholds_of(levels[site.name], self.scales[site.name])
            for site, inner in zip(sites, local, strict=True)
        }
        with Simulation(self.module, local, below(thresholds)):
            return float((self._output() - self.dense).float().square().sum())

    def _output(self) -> Tensor:
        args, kwargs = tree_map(_copied, self.call)
        with torch.no_grad():
            output = first_tensor(self.module(*args, **kwargs))
        assert output is not None
        return output


def thresholds_of(level: float, scale: Tensor) -> Tensor:
    """λ_i with ``|x_i|·c_i > level`` where ``|x_i| > λ_i``, finite also where c is 0."""
    largest = torch.finfo(torch.float32).max
    return torch.where(scale > 0, level / scale, largest).clamp(max=largest)


def _within(site: InputSite, prefix: str) -> InputSite:
    """The same site, named as within a block; a block that is one layer is named by nothing.

    Readers in other blocks, as of an encoder's output, are left out.
    """
    readers = tuple(
        reader.removeprefix(prefix) for reader in site.readers if reader.startswith(prefix)
    )
    if prefix and site.name == prefix[:-1]:
        readers = ("",)
    return InputSite(readers[0], readers, site.inputs, site.outputs)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value  # a forward may change it in place


def _calls(
    model: nn.Module, names: Iterable[str], batch: Batch
) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """What each block is called with in a dense forward."""
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    handles = []
    for name in names:

        def note(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name
        ) -> None:
            if name not in calls:
                calls[name] = tree_map(_copied, (args, kwargs))

        handles.append(model.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls
