"""Penalties: pure sums with their proximal operators, and what hangs them on a model."""

from sparsact.penalties.attach import ActivationPenalty, WeightPenalty
from sparsact.penalties.elementwise import L1, L2, ElasticNet
from sparsact.penalties.penalty import Penalty

__all__ = ["L1", "L2", "ActivationPenalty", "ElasticNet", "Penalty", "WeightPenalty"]
