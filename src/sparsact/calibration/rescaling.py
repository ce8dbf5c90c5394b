"""Bringing a plan back to its sparsity after its model's weights have changed."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from sparsact.calibration.allocations.global_allocation import global_levels
from sparsact.calibration.batches import Batch
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.score_histogram import score_histograms

SMALLEST, LARGEST = 1e-20, 1e20  # bounds of a threshold that is divided by
_PASSES = 2
_BATCHES = 8  # that are looked at


def rescaled(plan: ThresholdPlan, model: nn.Module, batches: Sequence[Batch]) -> ThresholdPlan:
    """Multiply all thresholds by the factor that restores the sparsity, and measure `achieved`.

    Args:
        plan: the plan with its updates.
        model: the dense model, without the updates.
        batches: only the first ones are used.
    """
    batches = batches[:_BATCHES]
    run = CalibrationRun(model, batches, plan.sites, plan.keep_first)
    with plan.updates.write(model):
        for _ in range(_PASSES if plan.sparsity else 0):
            scales = {
                name: 1 / threshold.clamp(SMALLEST, LARGEST)
                for name, threshold in plan.thresholds.items()
            }
            histograms = score_histograms(run, scales, plan.thresholds)
            # sites that these batches do not reach get the same factor
            reached = [site for site in plan.sites if histograms[site.name].counts.any()]
            if not reached:
                break
            levels = global_levels(reached, histograms, plan.sparsity)
            factor, largest = levels[reached[0].name], torch.finfo(torch.float32).max
            thresholds = {
                name: (threshold * factor).clamp(max=largest)
                for name, threshold in plan.thresholds.items()
            }
            plan = replace(plan, thresholds=thresholds)
    return replace(plan, achieved=plan.measure(model, batches))
