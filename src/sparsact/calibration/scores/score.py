"""How a score is declared."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sparsact.calibration.calibration_run import CalibrationRun


@dataclass(frozen=True)
class Score:
    """How much an entry of a layer's input matters: ``score_i = |x_i|·c_i``.

    Attributes:
        name: the value of ``score=`` in :func:`sparsact.calibration.calibrate`.
        help: completes "an entry counts by …" in the help of the command line.
        scales: computes c of each site, (inputs,) float32 on the CPU, by the site's name.
        passes: how often that goes through the batches.
    """

    name: str
    help: str
    scales: Callable[[CalibrationRun], dict[str, Tensor]]
    passes: int = 0
