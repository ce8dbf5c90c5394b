"""Removing units whose weights became exactly zero: a smaller model with the same outputs."""

from sparsact.pruning.prune import PruningReport, prune_zero_units

__all__ = ["PruningReport", "prune_zero_units"]
