"""What the zeros take away is made up for by the inputs that stay, as far as these tell it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from sparsact._common.progress import Progress
from sparsact.calibration.batches import (
    Batch,
    counted,
    rows_of,
    run_to_head,
    that_count,
    unchanged,
)
from sparsact.calibration.correct import corrected
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.simulate import Simulation, below, check_dense
from sparsact.calibration.sites import InputSite, weight_t
from sparsact.calibration.updates import Updates
from sparsact.hooks import Taps, shared_parameters

_RIDGE = 0.1  # of the mean square of an input that stays
_ROUNDING = 1e-5  # of an input's square, which float32 sums may be wrong by
_MOMENTS_BYTES = 2**30  # that are held at once: beyond, the batches are gone through again


def compensate(
    plan: ThresholdPlan,
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    rank: int,
    progress: Progress | None,
) -> ThresholdPlan:
    """See :meth:`sparsact.calibration.ThresholdPlan.compensate`."""
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if plan.updates:
        raise ValueError("the plan has changed the weights already: compensate first, then tune")
    batches = that_count(batches, plan.keep_first, "compensate")
    plan.check(model)
    check_dense(model)
    groups = list(_groups(plan.sites))
    with unchanged(model):
        for number, sites in enumerate(groups):
            with plan.updates.write(model):
                moments = _moments(plan, model, sites, batches)
            plan = replace(plan, updates=_added(plan.updates, model, sites, moments, rank))
            if progress is not None:
                progress(number + 1, len(groups), "compensation")
        return corrected(plan, model, batches)


@dataclass
class _Moments:
    """Sums over tokens of a site's inputs: what stays, s, and what is left out, d.

    Attributes:
        tokens: how many.
        kept: of s, (inputs,).
        left_out: of d, (inputs,).
        square: of s·sᵀ, (inputs, inputs).
        cross: of d·sᵀ, (inputs, inputs).
    """

    tokens: int
    kept: Tensor
    left_out: Tensor
    square: Tensor
    cross: Tensor

    @classmethod
    def none(cls, inputs: int, device: torch.device) -> "_Moments":
        zeros = [torch.zeros(inputs, device=device) for _ in range(2)]
        return cls(0, *zeros, *[torch.zeros(inputs, inputs, device=device) for _ in range(2)])

    def add(self, x: Tensor, threshold: Tensor) -> None:
        out = x.abs().float() <= threshold
        x = x.float()
        kept, left_out = x.masked_fill(out, 0), x.masked_fill(~out, 0)
        self.tokens += len(x)
        self.kept += kept.sum(0)
        self.left_out += left_out.sum(0)
        self.square.addmm_(kept.t(), kept)
        self.cross.addmm_(left_out.t(), kept)

    def means(self, centred: bool) -> tuple[Tensor, Tensor]:
        """Of s·sᵀ, with the ridge, and of d·sᵀ: covariances if a bias takes what is constant."""
        square, cross = self.square / self.tokens, self.cross / self.tokens
        size = square.diagonal().clone()
        if centred:
            kept = self.kept / self.tokens
            square -= torch.outer(kept, kept)
            cross -= torch.outer(self.left_out / self.tokens, kept)
        ridge = _RIDGE * square.diagonal().mean().clamp(min=0)
        if centred:  # the difference of large numbers
            ridge = ridge + _ROUNDING * size
        square.diagonal().add_(torch.where(ridge > 0, ridge, 1))
        return square, cross


def _groups(sites: Sequence[InputSite]) -> Iterator[list[InputSite]]:
    """Sites in the order of the forward, as many as may be looked at together."""
    group: list[InputSite] = []
    size = 0
    for site in sites:
        own = 2 * 4 * site.inputs**2
        if group and size + own > _MOMENTS_BYTES:
            yield group
            group, size = [], 0
        group.append(site)
        size += own
    yield group


def _moments(
    plan: ThresholdPlan, model: nn.Module, sites: Sequence[InputSite], batches: Iterable[Batch]
) -> dict[str, _Moments]:
    """Of what the sparse model's sites are given."""
    modules = {site.name: model.get_submodule(site.name) for site in sites}
    device = next(model.parameters()).device
    found = {site.name: _Moments.none(site.inputs, device) for site in sites}
    thresholds = {name: plan.thresholds[name].to(device) for name in found}
    kept: Tensor | None = None

    def add(name: str, x: Tensor) -> None:
        found[name].add(rows_of(x, kept), thresholds[name])

    taps = Taps(modules, add, "input")
    simulation = Simulation(model, plan.sites, below(plan.thresholds), plan.keep_first)
    try:
        with torch.no_grad():
            for batch in batches:
                kept = counted(batch, plan.keep_first)
                run_to_head(model, batch)
    finally:
        taps.remove()
        simulation.remove()
    return found


def _added(
    updates: Updates,
    model: nn.Module,
    sites: Iterable[InputSite],
    moments: dict[str, _Moments],
    rank: int,
) -> Updates:
    """`updates`, and what makes up for the zeros of these sites."""
    values, low_rank = dict(updates.values), dict(updates.low_rank)
    shared = shared_parameters(model)
    for site in sites:
        found = moments[site.name]
        if not bool(found.kept.any()):  # nothing stays, or nothing came
            continue
        whitened = cache(lambda centred, found=found: _whitened(*found.means(centred)))
        for reader in site.readers:
            linear = model.get_submodule(reader)
            if not shared.isdisjoint(map(id, linear.parameters())):
                continue  # what is added here would be added elsewhere
            weight, bias = weight_t(linear).t().float(), _bias(linear)
            factor, cross = whitened(bias is not None)
            up, down = low_rank[reader] = _nearest(weight @ cross, factor, rank)
            if bias is not None:
                missing = weight @ found.left_out - up @ (down @ found.kept)
                values[f"{reader}.bias"] = bias.detach().float() + missing / found.tokens
    return Updates(values, low_rank)


def _whitened(square: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """L with ``L·Lᵀ = E[s·sᵀ] + ρI``, and ``E[d·sᵀ]·L⁻ᵀ``."""
    factor: Tensor = torch.linalg.cholesky(square)
    return factor, torch.linalg.solve_triangular(factor, cross.t(), upper=False).t()


def _nearest(wanted: Tensor, factor: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """U (out, rank) and D (rank, in) for which ``U·D·L`` is the nearest to `wanted` (out, in)."""
    rank = min(rank, *wanted.shape)
    if wanted.shape[0] <= wanted.shape[1]:
        # a copy: a part would keep the whole of them alive
        up = torch.linalg.eigh(wanted @ wanted.t()).eigenvectors[:, -rank:].clone()
        right = up.t() @ wanted
    else:
        right = torch.linalg.eigh(wanted.t() @ wanted).eigenvectors[:, -rank:].t()
        up = wanted @ right.t()
    return up, torch.linalg.solve_triangular(factor.t(), right.t(), upper=True).t()


def _bias(linear: nn.Module) -> Tensor | None:
    bias: Tensor | None = linear.bias  # type: ignore[assignment]
    return bias
