"""The score of WINA: the size of the entry times the norm of its weights."""

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.linear_layers import weight_t
from sparsact.calibration.offloaded import present
from sparsact.calibration.scores.score import Score


def weight_scales(run: CalibrationRun) -> dict[str, Tensor]:
    """``c_i = ‖W_:,i‖₂`` over all readers.

    Raises:
        InputError: weights are NaN or infinite; the message names the site.

    Source:
        Chen et al. 2025, WINA.
    """
    scales = {}
    for site in run.sites:
        weights = [_weight(run.model.get_submodule(name)) for name in site.readers]
        scales[site.name] = torch.cat(weights, 1).norm(dim=1).cpu()
        if not bool(scales[site.name].isfinite().all()):
            raise InputError(f"the weights are NaN or infinite at {site.label}")
    return scales


def _weight(linear: nn.Module) -> Tensor:
    with present(linear):
        return weight_t(linear).float()


WEIGHT = Score("weight", "its size times the norm of its weights (WINA)", weight_scales)
