"""Penalties: sums with their proximal operators, and the classes that attach them to a model."""

from sparsact.penalties.activation_penalty import ActivationPenalty
from sparsact.penalties.base_penalty import Penalty
from sparsact.penalties.coefficient_schedules import CosineSchedule, LinearWarmup
from sparsact.penalties.coupled_groups import CoupledGroups, coupled_groups
from sparsact.penalties.group_lasso import GroupLasso, SparseGroupLasso
from sparsact.penalties.hoyer import Hoyer, HoyerSquare
from sparsact.penalties.kl_sparsity import KLSparsity
from sparsact.penalties.l0 import L0
from sparsact.penalties.l1_l2 import L1, L2, ElasticNet
from sparsact.penalties.l_half import LHalf
from sparsact.penalties.latent_groups import LatentGroupLasso
from sparsact.penalties.log_sum import LogSum
from sparsact.penalties.mcp import MCP
from sparsact.penalties.nuclear_norm import NuclearNorm
from sparsact.penalties.overlapping_groups import OverlappingGroupLasso
from sparsact.penalties.scad_penalty import SCAD
from sparsact.penalties.smooth_l1 import SmoothL1
from sparsact.penalties.sorted_l1 import OSCAR, SLOPE
from sparsact.penalties.total_variation import TotalVariation
from sparsact.penalties.weight_penalty import WeightPenalty

__all__ = [
    "L0",
    "L1",
    "L2",
    "MCP",
    "OSCAR",
    "SCAD",
    "SLOPE",
    "ActivationPenalty",
    "CosineSchedule",
    "CoupledGroups",
    "ElasticNet",
    "GroupLasso",
    "Hoyer",
    "HoyerSquare",
    "KLSparsity",
    "LHalf",
    "LatentGroupLasso",
    "LinearWarmup",
    "LogSum",
    "NuclearNorm",
    "OverlappingGroupLasso",
    "Penalty",
    "SmoothL1",
    "SparseGroupLasso",
    "TotalVariation",
    "WeightPenalty",
    "coupled_groups",
]
