"""The score of TEAL: the size of the entry itself."""

import torch
from torch import Tensor

from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.scores.score import Score


def magnitude_scales(run: CalibrationRun) -> dict[str, Tensor]:
    """``c_i = 1``.

    Source:
        Liu et al. 2024, "Training-free activation sparsity in large language models".
    """
    return {site.name: torch.ones(site.inputs) for site in run.sites}


MAGNITUDE = Score("magnitude", "its size alone (TEAL)", magnitude_scales)
