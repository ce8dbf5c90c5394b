"""Thresholded layers whose zeros become time."""

from sparsact.inference.linear import SparseLinear
from sparsact.inference.sparsify import sparsify

__all__ = ["SparseLinear", "sparsify"]
