"""Lasso problems that share a Gram matrix, by coordinate descent and Newton steps."""

import torch
from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, INTEGER, REAL, REALS, function
from sparsact.kernels.cpu.threads import threads

_solve = function(
    "lasso_gram",
    *(INTEGER, INTEGER, INTEGER, INTEGER),  # threads, signals, atoms, dtype
    *(ADDRESS, ADDRESS, ADDRESS, ADDRESS),  # correlations, Gram matrix, energies, λ
    *(ADDRESS, ADDRESS, ADDRESS),  # codes, gaps, rounds that were taken
    *(REAL, INTEGER, INTEGER, REAL),  # ridge, whether positive, rounds, tolerance
)


def lasso_gram(
    correlation: Tensor,
    gram: Tensor,
    energy: Tensor,
    level: Tensor,
    start: Tensor,
    ridge: float,
    positive: bool,
    rounds: int,
    tol: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, relative duality gaps and rounds of each signal."""
    codes = start.clone(memory_format=torch.contiguous_format)
    signals, atoms = codes.shape
    gap, taken = energy.new_empty(signals), torch.empty(signals, dtype=torch.int64)
    inputs = [tensor.contiguous() for tensor in (correlation, gram, energy, level)]
    addresses = [tensor.data_ptr() for tensor in (*inputs, codes, gap, taken)]
    sizes = (threads(signals), signals, atoms, REALS[codes.dtype])
    _solve(*sizes, *addresses, ridge, positive, rounds, tol)
    return codes, gap, taken
