"""Threshold functions as modules, with names and arguments in the manner of ``torch.nn``."""

from sparsact.nn.activity import ActivityPenalty
from sparsact.nn.clip import Clip
from sparsact.nn.curved import Garrote, Halfshrink
from sparsact.nn.gate import JumpReLU, SigmoidGate
from sparsact.nn.group import GroupSoftshrink, SparseGroupSoftshrink
from sparsact.nn.piecewise import SCAD, Firmshrink
from sparsact.nn.select import BatchTopK, TopK
from sparsact.nn.shrink import Hardshrink, Softshrink
from sparsact.nn.smooth import Softplus
from sparsact.nn.threshold import BandModule, ThresholdModule

__all__ = [
    "SCAD",
    "ActivityPenalty",
    "BandModule",
    "BatchTopK",
    "Clip",
    "Firmshrink",
    "Garrote",
    "GroupSoftshrink",
    "Halfshrink",
    "Hardshrink",
    "JumpReLU",
    "SigmoidGate",
    "Softplus",
    "Softshrink",
    "SparseGroupSoftshrink",
    "ThresholdModule",
    "TopK",
]
