"""A plan whose model has changed, brought back to the sparsity that was asked for."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from sparsact.calibration.allocate import global_levels
from sparsact.calibration.batches import Batch
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.scores import score_histograms

SMALLEST, LARGEST = 1e-20, 1e20  # of a threshold that is divided by
_CORRECTIONS, _CORRECTED_ON = 2, 8  # on how many batches


def corrected(plan: ThresholdPlan, model: nn.Module, batches: Sequence[Batch]) -> ThresholdPlan:
    """All thresholds times the one factor that gives the sparsity, and `achieved` measured.

    Args:
        plan: with what it changes in the model.
        model: without that.
        batches: of which the first are looked at.
    """
    batches = batches[:_CORRECTED_ON]
    with plan.updates.write(model):
        for _ in range(_CORRECTIONS if plan.sparsity else 0):
            scales = {
                name: 1 / level.clamp(SMALLEST, LARGEST) for name, level in plan.thresholds.items()
            }
            histograms = score_histograms(
                model, plan.sites, scales, batches, plan.thresholds, plan.keep_first, _nothing
            )
            # a site that these batches do not reach goes with the others
            seen = [site for site in plan.sites if histograms[site.name].counts.any()]
            if not seen:
                break
            levels = global_levels(seen, histograms, plan.sparsity)
            factor, largest = levels[seen[0].name], torch.finfo(torch.float32).max
            thresholds = {
                name: (level * factor).clamp(max=largest) for name, level in plan.thresholds.items()
            }
            plan = replace(plan, thresholds=thresholds)
    return replace(plan, achieved=plan.measure(model, batches))


def _nothing() -> None:
    pass
