"""Threshold functions as modules, with names and arguments in the manner of ``torch.nn``."""

from sparsact.nn.activity import ActivityPenalty
from sparsact.nn.clip import Clip
from sparsact.nn.gate import JumpReLU, SigmoidGate
from sparsact.nn.select import BatchTopK, TopK
from sparsact.nn.shrink import Hardshrink, Softshrink
from sparsact.nn.smooth import Softplus
from sparsact.nn.threshold import ThresholdModule

__all__ = [
    "ActivityPenalty",
    "BatchTopK",
    "Clip",
    "Hardshrink",
    "JumpReLU",
    "SigmoidGate",
    "Softplus",
    "Softshrink",
    "ThresholdModule",
    "TopK",
]
