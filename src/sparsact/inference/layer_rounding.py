"""Layers whose weights are rounded for the least error on given inputs."""

from collections.abc import Iterable

from torch import nn

from sparsact.calibration.batches import Batch
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.model_forward import unchanged
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.site_moments import groups_within, site_moments
from sparsact.calibration.token_masks import batches_that_count
from sparsact.inference.sparse_linear import SparseLinear

_MEMORY = 2**30  # bytes of moments at a time


def layers_rounded_on(
    model: nn.Module, plan: ThresholdPlan, batches: Iterable[Batch], dtype: str
) -> dict[str, SparseLinear]:
    """The sparse layer of every reader of a plan, which the model does not hold yet.

    The moments are those of the sparse model with unrounded weights. A site that no token reached
    has no moments: its weights are rounded to the nearest values.
    """
    batches = batches_that_count(batches, plan.keep_first, "round the weights")
    run = CalibrationRun(model, batches, plan.sites, plan.keep_first)
    layers = {}
    with unchanged(model), plan.updates.write(model):
        for sites in groups_within(_MEMORY, plan.sites):
            moments = site_moments(run, plan.thresholds, sites)
            for site in sites:
                own = moments[site.name]
                for reader in site.readers:
                    layers[reader] = SparseLinear(
                        model.get_submodule(reader),
                        plan.thresholds[site.name],
                        dtype=dtype,
                        input_moments=own.square / own.tokens if own.tokens else None,
                    )
    return layers
