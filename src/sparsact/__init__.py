"""Activation sparsity for PyTorch."""

from sparsact import functional, integrations, nn, optim
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.penalties import (
    L0,
    L1,
    L2,
    ActivationPenalty,
    CosineSchedule,
    ElasticNet,
    GroupLasso,
    Hoyer,
    HoyerSquare,
    KLSparsity,
    LinearWarmup,
    LogSum,
    Penalty,
    SmoothL1,
    SparseGroupLasso,
    WeightPenalty,
)
from sparsact.pruning import PruningReport, prune_zero_units
from sparsact.taps import swap

__version__ = "0.1.0"

__all__ = [
    "L0",
    "L1",
    "L2",
    "ActivationPenalty",
    "CosineSchedule",
    "ElasticNet",
    "GroupLasso",
    "Hoyer",
    "HoyerSquare",
    "KLSparsity",
    "LayerStats",
    "LinearWarmup",
    "LogSum",
    "Penalty",
    "PruningReport",
    "SmoothL1",
    "SparseGroupLasso",
    "SparsityMeter",
    "WeightPenalty",
    "functional",
    "integrations",
    "nn",
    "optim",
    "prune_zero_units",
    "swap",
]
