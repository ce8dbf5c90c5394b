"""Weight corrections with which kept inputs compensate for dropped ones."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.calibration.batches import Batch
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.linear_layers import weight_t
from sparsact.calibration.model_forward import unchanged
from sparsact.calibration.offloaded import check_in_memory
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.rescaling import rescaled
from sparsact.calibration.simulate import check_dense
from sparsact.calibration.site_moments import SiteMoments, groups_within, site_moments
from sparsact.calibration.sites import InputSite
from sparsact.calibration.token_masks import batches_that_count
from sparsact.calibration.weight_updates import Updates
from sparsact.hooks import shared_parameters


def compensate(
    plan: ThresholdPlan,
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    rank: int = 64,
    memory_bytes: int = 2**30,
    progress: Progress | None = None,
) -> ThresholdPlan:
    """Correct the weights so that kept inputs compensate for dropped ones.

    The kept inputs partly predict what a layer loses when the others are zeroed. For a layer
    ``W·x`` that receives ``s = x·1[|x|>λ]``, the correction ΔW that minimises
    ``E‖W·(x − s) − ΔW·s‖² + ρ‖ΔW‖²`` is a ridge regression; its best approximation of rank `rank`
    is used. If the layer has a bias, that takes the constant part. Merged into the weights, the
    correction costs nothing at inference. It needs one forward per batch and no gradient, much
    less than :func:`tune`, which may follow and starts from the corrected weights.

    Args:
        plan: a plan without updates.
        model: the model that was calibrated; left as it was.
        batches: as for :func:`sparsact.calibration.calibrate`, preferably more of them: a matrix
            is estimated, which takes many tokens.
        rank: of the corrections.
        memory_bytes: memory for the moments of the inputs. The batches are read again for each
            group of sites that fits; a single site may exceed it.
        progress: called with the steps done, the number of steps, and what is being done.

    Returns:
        a new plan with the corrections in `updates`, and `achieved` measured on the first batches.

    Raises:
        InputError: no batches, a rank below 1, another model, or a plan that has updates.
        RuntimeError: a plan is applied to the model.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> batches = torch.randn(4, 64, 16).unbind()
        >>> plan = sa.calibrate(model, batches, 0.4, score="weight")
        >>> compensated = compensate(plan, model, batches, rank=4)
        >>> sorted(compensated.updates.low_rank)
        ['0', '2']
    """
    if rank < 1:
        raise InputError(f"rank= must be at least 1, got {rank}")
    if plan.updates:
        raise InputError("the plan has changed the weights already: compensate first, then tune")
    batches = batches_that_count(batches, plan.keep_first, "compensate")
    check_in_memory(model, "compensate")
    plan.check(model)
    check_dense(model)
    run = CalibrationRun(model, batches, plan.sites, plan.keep_first)
    groups = list(groups_within(memory_bytes, plan.sites))
    counter = ProgressCounter(len(groups), progress, "compensation")
    with unchanged(model):
        for sites in counter.through(groups):
            with plan.updates.write(model):
                moments = site_moments(run, plan.thresholds, sites)
            plan = replace(
                plan, updates=_with_corrections(plan.updates, model, moments, sites, rank)
            )
        return rescaled(plan, model, batches)


def _with_corrections(
    updates: Updates,
    model: nn.Module,
    moments: dict[str, SiteMoments],
    sites: Iterable[InputSite],
    rank: int,
) -> Updates:
    """`updates` and the corrections of these sites' readers."""
    values, low_rank = dict(updates.values), dict(updates.low_rank)
    shared = shared_parameters(model)
    for site in sites:
        own = moments[site.name]
        if not bool(own.kept.any()):  # nothing is kept, or no token came
            continue
        whitened = cache(lambda centred, own=own: _whitened(*own.means(centred)))
        for reader in site.readers:
            linear = model.get_submodule(reader)
            if not shared.isdisjoint(map(id, linear.parameters())):
                continue  # a correction here would also change another layer
            weight, bias = weight_t(linear).t().float(), _bias(linear)
            factor, cross = whitened(bias is not None)
            up, down = low_rank[reader] = _nearest(weight @ cross, factor, rank)
            if bias is not None:
                missing = weight @ own.dropped - up @ (down @ own.kept)
                values[f"{reader}.bias"] = bias.detach().float() + missing / own.tokens
    return Updates(values, low_rank)


def _whitened(square: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """L with ``L·Lᵀ = E[s·sᵀ] + ρI``, and ``E[d·sᵀ]·L⁻ᵀ``."""
    factor: Tensor = torch.linalg.cholesky(square)
    return factor, torch.linalg.solve_triangular(factor, cross.t(), upper=False).t()


def _nearest(target: Tensor, factor: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """U (out, rank) and D (rank, in) such that ``U·D·L`` is nearest to `target` (out, in)."""
    rank = min(rank, *target.shape)
    if target.shape[0] <= target.shape[1]:
        # cloned, because a slice would keep all eigenvectors in memory
        up = torch.linalg.eigh(target @ target.t()).eigenvectors[:, -rank:].clone()
        right = up.t() @ target
    else:
        right = torch.linalg.eigh(target.t() @ target).eigenvectors[:, -rank:].t()
        up = target @ right.t()
    return up, torch.linalg.solve_triangular(factor.t(), right.t(), upper=True).t()


def _bias(linear: nn.Module) -> Tensor | None:
    bias: Tensor | None = linear.bias  # type: ignore[assignment]
    return bias
