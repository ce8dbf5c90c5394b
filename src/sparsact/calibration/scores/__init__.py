"""The scores that ``calibrate`` knows: a new one is a file here and an entry in `SCORES`."""

from sparsact.calibration.scores.loss_score import LOSS
from sparsact.calibration.scores.magnitude_score import MAGNITUDE
from sparsact.calibration.scores.score import Score
from sparsact.calibration.scores.weight_score import WEIGHT

SCORES = {score.name: score for score in (LOSS, WEIGHT, MAGNITUDE)}

__all__ = ["LOSS", "MAGNITUDE", "SCORES", "WEIGHT", "Score"]
