"""Activation sparsity for PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from sparsact.denoise import denoise_wavelet

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
    "denoise_wavelet",
    "functional",
    "integrations",
    "nn",
    "optim",
    "prune_zero_units",
    "swap",
]

_LAZY = {"denoise_wavelet": "sparsact.denoise"}  # loaded when first asked for


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
