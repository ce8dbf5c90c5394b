"""Penalties: pure sums with their proximal operators, and what hangs them on a model."""

from sparsact.penalties.attach import ActivationPenalty
from sparsact.penalties.concave import LogSum
from sparsact.penalties.count import L0
from sparsact.penalties.elementwise import L1, L2, ElasticNet
from sparsact.penalties.group import GroupLasso, SparseGroupLasso
from sparsact.penalties.penalty import Penalty
from sparsact.penalties.rate import KLSparsity
from sparsact.penalties.ratio import Hoyer, HoyerSquare
from sparsact.penalties.schedules import CosineSchedule, LinearWarmup
from sparsact.penalties.smooth import SmoothL1
from sparsact.penalties.weights import WeightPenalty

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
    "LinearWarmup",
    "LogSum",
    "Penalty",
    "SmoothL1",
    "SparseGroupLasso",
    "WeightPenalty",
]
