"""Sparse coding: the problems that soft shrinkage solves one step at a time."""

from sparsact.coding.cdlnet import CDLNet, noise_level
from sparsact.coding.convolutional import ConvLISTA
from sparsact.coding.dictionary_learning import LearnedDictionary, fit_dictionary
from sparsact.coding.operators import ConvDictionary, Operator
from sparsact.coding.optimality import subgradient_distance
from sparsact.coding.regularisation_path import CodePath, path
from sparsact.coding.sparse_code import (
    NotConvergedWarning,
    SparseCode,
    ZeroCodeWarning,
    solve_sparse_code,
    sparse_code,
)
from sparsact.coding.unfolded import ALISTA, LISTA, ThresholdFactory

__all__ = [
    "ALISTA",
    "LISTA",
    "CDLNet",
    "CodePath",
    "ConvDictionary",
    "ConvLISTA",
    "LearnedDictionary",
    "NotConvergedWarning",
    "Operator",
    "SparseCode",
    "ThresholdFactory",
    "ZeroCodeWarning",
    "fit_dictionary",
    "noise_level",
    "path",
    "solve_sparse_code",
    "sparse_code",
    "subgradient_distance",
]
