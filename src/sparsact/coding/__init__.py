"""Sparse coding: the problems that soft shrinkage solves one step at a time."""

from sparsact.coding.operators import ConvDictionary, Operator
from sparsact.coding.regularisation_path import CodePath, path
from sparsact.coding.sparse_code import (
    NotConvergedWarning,
    SparseCode,
    solve_sparse_code,
    sparse_code,
)
from sparsact.coding.unfolded import ALISTA, LISTA, ThresholdFactory

__all__ = [
    "ALISTA",
    "LISTA",
    "CodePath",
    "ConvDictionary",
    "NotConvergedWarning",
    "Operator",
    "SparseCode",
    "ThresholdFactory",
    "path",
    "solve_sparse_code",
    "sparse_code",
]
