"""Thresholded layers whose zeros become time."""

from sparsact.inference.linear import SparseLinear

__all__ = ["SparseLinear"]
