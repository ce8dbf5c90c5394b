"""Sparse layers for inference, whose zeros save time."""

from sparsact.inference.generation import generate
from sparsact.inference.sparse_linear import SparseLinear
from sparsact.inference.sparsify import sparsify

__all__ = ["SparseLinear", "generate", "sparsify"]
