"""Threshold functions as modules, with names and arguments in the manner of ``torch.nn``."""

from sparsact.penalties.activity_layer import ActivityPenalty
from sparsact.thresholds.batch_topk import BatchTopK
from sparsact.thresholds.channel_gate import ChannelGate
from sparsact.thresholds.clip import Clip
from sparsact.thresholds.entmax import Entmax, Sparsemax
from sparsact.thresholds.firmshrink import Firmshrink
from sparsact.thresholds.garrote import Garrote
from sparsact.thresholds.gaussian_gate import GaussianGate
from sparsact.thresholds.group_softshrink import GroupSoftshrink
from sparsact.thresholds.halfshrink import Halfshrink
from sparsact.thresholds.hard_concrete import HardConcrete
from sparsact.thresholds.hardshrink import Hardshrink
from sparsact.thresholds.jumprelu import JumpReLU
from sparsact.thresholds.relu_gate import ReluGate
from sparsact.thresholds.scad import SCAD
from sparsact.thresholds.sigmoid_gate import SigmoidGate
from sparsact.thresholds.softplus import Softplus
from sparsact.thresholds.softshrink import Softshrink
from sparsact.thresholds.sparse_group_softshrink import SparseGroupSoftshrink
from sparsact.thresholds.stochastic_gate import StochasticGate
from sparsact.thresholds.threshold_module import BandModule, ThresholdModule
from sparsact.thresholds.topk import TopK

__all__ = [
    "SCAD",
    "ActivityPenalty",
    "BandModule",
    "BatchTopK",
    "ChannelGate",
    "Clip",
    "Entmax",
    "Firmshrink",
    "Garrote",
    "GaussianGate",
    "GroupSoftshrink",
    "Halfshrink",
    "HardConcrete",
    "Hardshrink",
    "JumpReLU",
    "ReluGate",
    "SigmoidGate",
    "Softplus",
    "Softshrink",
    "SparseGroupSoftshrink",
    "Sparsemax",
    "StochasticGate",
    "ThresholdModule",
    "TopK",
]
