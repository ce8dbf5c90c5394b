"""Second moments of what a sparse model's sites keep and drop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.calibration.calibration_run import CalibrationRun, Thresholds
from sparsact.calibration.sites import InputSite

_RIDGE = 0.1  # of the mean square of a kept input
_ROUNDING = 1e-5  # of an input's square: the error of float32 sums


@dataclass
class SiteMoments:
    """Sums over tokens of a site's input x, split into kept entries s and dropped ones d.

    Attributes:
        tokens: number of tokens.
        kept: Σ s, (inputs,).
        dropped: Σ d, (inputs,).
        square: Σ s·sᵀ, (inputs, inputs).
        cross: Σ d·sᵀ, (inputs, inputs).
    """

    tokens: int
    kept: Tensor
    dropped: Tensor
    square: Tensor
    cross: Tensor

    @classmethod
    def zeros(cls, inputs: int, device: torch.device) -> "SiteMoments":
        """The moments of no token."""
        vectors = [torch.zeros(inputs, device=device) for _ in range(2)]
        return cls(0, *vectors, *[torch.zeros(inputs, inputs, device=device) for _ in range(2)])

    def add(self, x: Tensor, threshold: Tensor) -> None:
        """Add tokens (n, inputs)."""
        below = x.abs().float() <= threshold
        x = x.float()
        kept, dropped = x.masked_fill(below, 0), x.masked_fill(~below, 0)
        self.tokens += len(x)
        self.kept += kept.sum(0)
        self.dropped += dropped.sum(0)
        self.square.addmm_(kept.t(), kept)
        self.cross.addmm_(dropped.t(), kept)

    def means(self, centred: bool) -> tuple[Tensor, Tensor]:
        """The means of s·sᵀ, with a ridge, and of d·sᵀ.

        Args:
            centred: return covariances, for a layer whose bias takes the constant part.
        """
        square, cross = self.square / self.tokens, self.cross / self.tokens
        size = square.diagonal().clone()
        if centred:
            kept = self.kept / self.tokens
            square -= torch.outer(kept, kept)
            cross -= torch.outer(self.dropped / self.tokens, kept)
        ridge = _RIDGE * square.diagonal().mean().clamp(min=0)
        if centred:  # the difference of large numbers
            ridge = ridge + _ROUNDING * size
        square.diagonal().add_(torch.where(ridge > 0, ridge, 1))
        return square, cross


def site_moments(
    run: CalibrationRun, thresholds: Thresholds, sites: Sequence[InputSite]
) -> dict[str, SiteMoments]:
    """The moments of some sites in the sparse model.

    Args:
        run: the model and the batches.
        thresholds: of all sites of the run.
        sites: those to look at.
    """
    moments: dict[str, SiteMoments] = {}
    own: Thresholds = {}

    def add(site: InputSite, rows: Tensor, number: int) -> None:
        if site.name not in moments:  # a model may be spread over several devices
            moments[site.name] = SiteMoments.zeros(site.inputs, rows.device)
            own[site.name] = thresholds[site.name].to(rows.device)
        moments[site.name].add(rows, own[site.name])

    run.watch(add, thresholds, sites=sites)
    unreached = {site.name: site.inputs for site in sites if site.name not in moments}
    return moments | {
        name: SiteMoments.zeros(inputs, torch.device("cpu")) for name, inputs in unreached.items()
    }


def groups_within(memory_bytes: int, sites: Sequence[InputSite]) -> Iterator[list[InputSite]]:
    """Sites in the order of the forward, in groups whose moments fit into the memory."""
    group: list[InputSite] = []
    size = 0
    for site in sites:
        own = 2 * 4 * site.inputs**2
        if group and size + own > memory_bytes:
            yield group
            group, size = [], 0
        group.append(site)
        size += own
    yield group
