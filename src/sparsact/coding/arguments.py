"""What the arguments of a solver must be, and the forms in which a solver takes them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError, unknown
from sparsact.coding.checks import check_count, check_finite, check_squares, check_tensor
from sparsact.coding.operators import MatrixDictionary, Operator, check_adjoint
from sparsact.coding.sparse_dictionary import SparseDictionary, sparse_matrix
from sparsact.penalties import (
    GroupLasso,
    NuclearNorm,
    Penalty,
    SparseGroupLasso,
    TotalVariation,
)
from sparsact.penalties.base_penalty import has_prox
from sparsact.penalties.group_lasso import split_groups
from sparsact.penalties.shared_groups import SharedGroups
from sparsact.penalties.sorted_l1 import SortedL1

Method = Literal["admm", "auto", "cd", "fista", "ista"]
Gradient = Literal["implicit", "unrolled"]

_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_GROUPED = (GroupLasso, SharedGroups, SparseGroupLasso)  # one weight per group


def check_options(
    x: Tensor, penalty: Penalty, method: str, steps: int, tol: float, gradient: str, positive: bool
) -> None:
    """Raise InputError unless the options of a solver are valid."""
    check_tensor(x, "x")
    if not isinstance(penalty, Penalty):
        raise InputError(
            f"penalty= must be a penalty such as L1(0.1), got {type(penalty).__name__}"
        )
    if not has_prox(penalty):
        raise InputError(
            f"{type(penalty).__name__} has no proximal operator: sparse_code needs a penalty that "
            "has one, such as L1"
        )
    if positive and x.is_complex():
        raise InputError("positive= needs real signals and a real dictionary")
    if positive and not penalty.is_magnitude_sum:
        raise InputError(f"positive= is not implemented for {type(penalty).__name__}")
    if method not in get_args(Method):
        raise unknown("method=", method, get_args(Method))
    if gradient not in get_args(Gradient):
        raise unknown("gradient=", gradient, get_args(Gradient))
    check_count(steps, "steps")
    if not tol >= 0:
        raise InputError(f"tol= must be at least 0, got {tol}")


def check_signals(x: Tensor, dictionary: Tensor | nn.Module) -> tuple[Tensor, Operator]:
    """The signals as a batch, and the dictionary as an operator; a sparse one comes as CSR."""
    check_tensor(x, "x")
    if x.dtype not in _DTYPES:
        raise InputError(f"x= must be float32 or float64, real or complex, got {x.dtype}")
    check_squares(x, "x")
    if not isinstance(dictionary, Tensor):
        if not callable(getattr(dictionary, "adjoint", None)):
            raise InputError(
                f"dictionary= must be a matrix or a module with a method adjoint, got "
                f"{type(dictionary).__name__}"
            )
        operator: Operator = dictionary  # type: ignore[assignment]
        check_adjoint(operator, x)
        return x, operator
    if dictionary.ndim != 2 or not len(dictionary):
        raise InputError(
            f"dictionary= must be (atoms, dim) with at least one atom, got shape "
            f"{tuple(dictionary.shape)}"
        )
    if x.ndim < 1 or x.shape[-1] != dictionary.shape[1]:
        raise InputError(
            f"x= of shape {tuple(x.shape)} does not fit atoms of dim {dictionary.shape[1]}: its "
            "last dim must be that"
        )
    if dictionary.dtype != x.dtype:
        raise InputError(f"x= is {x.dtype} and dictionary= is {dictionary.dtype}: convert one")
    is_sparse = dictionary.layout != torch.strided
    if is_sparse and x.is_complex():
        raise InputError("a sparse dictionary= must be real: pass a dense complex one")
    check_squares(dictionary.values() if is_sparse else dictionary, "dictionary")
    signals = x.reshape(-1, x.shape[-1])
    return signals, SparseDictionary(dictionary) if is_sparse else MatrixDictionary(dictionary)


def as_dictionary(dictionary: Any) -> Tensor | nn.Module:
    """The dictionary, a sparse matrix of torch or SciPy as CSR of torch."""
    is_sparse = isinstance(dictionary, Tensor) and dictionary.layout != torch.strided
    matrix: Tensor | nn.Module = (
        sparse_matrix(dictionary) if is_sparse or hasattr(dictionary, "tocsr") else dictionary
    )
    return matrix


def starting_codes(
    signals: Tensor, operator: Operator, start: Tensor | None, x: Tensor, name: str = "start"
) -> Tensor:
    """The codes to start from as a batch: `start` if it has the right shape, or zeros."""
    if isinstance(operator, (MatrixDictionary, SparseDictionary)):
        codes = signals.new_zeros(len(signals), len(operator.matrix))
    else:
        with torch.no_grad():
            codes = signals.new_zeros(len(signals), *operator.adjoint(signals[:1]).shape[1:])
    if start is None:
        return codes
    check_tensor(start, name)
    expected = (*x.shape[:-1], codes.shape[1]) if codes.ndim == 2 else tuple(codes.shape)
    if tuple(start.shape) != expected:
        raise InputError(f"{name}= must have shape {expected}, got {tuple(start.shape)}")
    check_finite(start, name)
    return start.to(codes).reshape(codes.shape).detach()


def weights_for(penalty: Penalty, x: Tensor, codes: Tensor) -> Penalty:
    """The penalty, its weights of each entry such that they broadcast to the batch of codes."""
    weights: Any = getattr(penalty, "weights", None)
    if weights is None or isinstance(penalty, _GROUPED):
        return penalty
    weights = torch.as_tensor(weights, dtype=codes.real.dtype)
    try:
        if codes.ndim == 2 and weights.ndim > 1:  # of a matrix: the signals may have leading dims
            full = weights.expand(*x.shape[:-1], codes.shape[1])
            weights = full.reshape(codes.shape) if x.ndim > 2 else weights
        weights.expand(codes.shape)
    except RuntimeError as error:
        raise InputError(
            f"weights= of shape {tuple(weights.shape)} of {type(penalty).__name__} do not "
            f"broadcast to codes of shape {tuple(codes.shape)}"
        ) from error
    dataclass_instance: Any = penalty
    fitted: Penalty = replace(dataclass_instance, weights=weights)
    return fitted


def check_groups(penalty: Penalty, codes: Tensor) -> None:
    """Raise InputError if a group of the penalty reaches across signals."""
    if isinstance(penalty, NuclearNorm) and (penalty.flatten or codes.ndim < 3):
        raise InputError("NuclearNorm needs the code of one signal to be a matrix, and no flatten=")
    if isinstance(penalty, (SortedL1, SharedGroups, TotalVariation)):
        own_dims = penalty.dim if isinstance(penalty.dim, tuple) else (penalty.dim,)
        if any(dim % codes.ndim == 0 for dim in own_dims):
            name = type(penalty).__name__
            raise InputError(f"dim={penalty.dim} of {name} reaches across signals")
    if isinstance(penalty, (GroupLasso, SparseGroupLasso)):
        split, dims = split_groups(codes, penalty.dim, penalty.group_size)
        if any(dim % split.ndim == 0 for dim in dims):
            raise InputError("a group of the penalty must lie within the code of one signal")


def needs_gradient(x: Tensor, dictionary: Tensor | nn.Module, penalty: Penalty) -> bool:
    """Whether the codes are differentiated."""
    coefficient: float | Tensor | Callable[[int], float] = penalty.coefficient
    tensors = [x, *([dictionary] if isinstance(dictionary, Tensor) else dictionary.parameters())]
    values = (coefficient, getattr(penalty, "weights", None))
    tensors += [value for value in values if isinstance(value, Tensor)]
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
