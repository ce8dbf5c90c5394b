"""Activation sparsity for PyTorch."""

from sparsact import functional, nn
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.penalties import L1, L2, ActivationPenalty, ElasticNet, Penalty, WeightPenalty
from sparsact.taps import swap

__version__ = "0.1.0"

__all__ = [
    "L1",
    "L2",
    "ActivationPenalty",
    "ElasticNet",
    "LayerStats",
    "Penalty",
    "SparsityMeter",
    "WeightPenalty",
    "functional",
    "nn",
    "swap",
]
