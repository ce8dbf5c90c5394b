"""Sparse coding: the problems that soft shrinkage solves one step at a time."""

from sparsact.coding.operators import ConvDictionary, Operator
from sparsact.coding.sparse_code import (
    NotConvergedWarning,
    SparseCode,
    solve_sparse_code,
    sparse_code,
)

__all__ = [
    "ConvDictionary",
    "NotConvergedWarning",
    "Operator",
    "SparseCode",
    "solve_sparse_code",
    "sparse_code",
]
