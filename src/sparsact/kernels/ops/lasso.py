"""Lasso problems that share a Gram matrix, forward only.

For each signal x, ``min_z ½‖x − Dz‖² + Σ level·|z| + ½·ridge·‖z‖²``, optionally over z ≥ 0. The
operation takes the correlations ``Dᵀx`` (batch, atoms), the Gram matrix ``DᵀD`` (atoms, atoms), the
energies ``‖x‖²`` (batch,), one level for each atom (atoms,) and codes to start from (batch, atoms).
It returns codes, their duality gaps over ``½‖x‖²`` and the rounds taken. A signal is done when its
gap is at most `tol`, or after `rounds` sweeps over the atoms.

Source:
    Friedman, Hastie & Tibshirani, "Regularization paths for generalized linear models via
    coordinate descent" (2010), section 2.2. The Newton steps on the support are those of Osborne,
    Presnell & Turlach, "A new approach to variable selection in least squares problems" (2000).
"""

import torch
from torch import Tensor

from sparsact.kernels.definition import define
from sparsact.kernels.reference import lasso_reference as reference


def _fake(
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
    taken = torch.empty_like(energy, dtype=torch.int64)
    return start.new_empty(start.shape), torch.empty_like(energy), taken


define(
    "lasso_gram",
    "(Tensor correlation, Tensor gram, Tensor energy, Tensor level, Tensor start, float ridge, "
    "bool positive, SymInt rounds, float tol) -> (Tensor, Tensor, Tensor)",
    reference.lasso_gram,
    _fake,
    cpu="lasso",
    dtypes=(torch.float32, torch.float64),
)
