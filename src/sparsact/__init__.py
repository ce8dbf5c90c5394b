"""Activation sparsity for PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

from sparsact import functional, integrations, nn, optim
from sparsact._common.after_import import after_import
from sparsact._common.tested_versions import warn_if_untested
from sparsact._version import __version__
from sparsact.control import TargetDensity
from sparsact.hooks import CallSite, CallSites, activations, swap
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.penalties import (
    L0,
    L1,
    L2,
    MCP,
    OSCAR,
    SCAD,
    SLOPE,
    ActivationPenalty,
    CosineSchedule,
    ElasticNet,
    GroupLasso,
    Hoyer,
    HoyerSquare,
    KLSparsity,
    LatentGroupLasso,
    LHalf,
    LinearWarmup,
    LogSum,
    NuclearNorm,
    OverlappingGroupLasso,
    Penalty,
    SmoothL1,
    SparseGroupLasso,
    TotalVariation,
    WeightPenalty,
)
from sparsact.pruning import PruningReport, prune_zero_units

if TYPE_CHECKING:
    from sparsact import calibration, coding, compare, denoise, inference, sae, selection
    from sparsact.calibration import ThresholdPlan, calibrate, compensate, tune
    from sparsact.compare import compare_activations
    from sparsact.denoise import denoise_learned, denoise_wavelet
    from sparsact.inference import generate, sparsify
    from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder
    from sparsact.selection import FeatureSelector

__all__ = [
    "L0",
    "L1",
    "L2",
    "MCP",
    "OSCAR",
    "SCAD",
    "SLOPE",
    "ActivationPenalty",
    "CallSite",
    "CallSites",
    "CosineSchedule",
    "ElasticNet",
    "FeatureSelector",
    "GroupLasso",
    "Hoyer",
    "HoyerSquare",
    "KLSparsity",
    "LHalf",
    "LatentGroupLasso",
    "LayerStats",
    "LinearWarmup",
    "LogSum",
    "NuclearNorm",
    "OverlappingGroupLasso",
    "Penalty",
    "PruningReport",
    "SAEConfig",
    "SAETrainConfig",
    "SAETrainer",
    "SmoothL1",
    "SparseAutoencoder",
    "SparseGroupLasso",
    "SparsityMeter",
    "TargetDensity",
    "ThresholdPlan",
    "TotalVariation",
    "WeightPenalty",
    "__version__",
    "activations",
    "calibrate",
    "calibration",
    "coding",
    "compare",
    "compare_activations",
    "compensate",
    "denoise",
    "denoise_learned",
    "denoise_wavelet",
    "functional",
    "generate",
    "inference",
    "integrations",
    "nn",
    "optim",
    "prune_zero_units",
    "sae",
    "selection",
    "sparsify",
    "swap",
    "tune",
]

_LAZY = {  # loaded when first asked for
    "FeatureSelector": "sparsact.selection",
    "SAEConfig": "sparsact.sae",
    "SAETrainConfig": "sparsact.sae",
    "SAETrainer": "sparsact.sae",
    "SparseAutoencoder": "sparsact.sae",
    "ThresholdPlan": "sparsact.calibration",
    "calibrate": "sparsact.calibration",
    "compare_activations": "sparsact.compare",
    "compensate": "sparsact.calibration",
    "denoise_learned": "sparsact.denoise",
    "denoise_wavelet": "sparsact.denoise",
    "generate": "sparsact.inference",
    "sparsify": "sparsact.inference",
    "tune": "sparsact.calibration",
}
_LAZY_ROOMS = ("calibration", "coding", "compare", "denoise", "inference", "sae", "selection")

warn_if_untested("torch")
# transformers then loads saved sparse models
after_import("transformers.quantizers.auto", "sparsact.inference.quantizer")


def __getattr__(name: str) -> Any:
    if name in _LAZY_ROOMS:
        return importlib.import_module(f"sparsact.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
