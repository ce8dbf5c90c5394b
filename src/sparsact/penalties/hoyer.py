"""The Hoyer penalties: ratios of two norms, which do not change when a sample is scaled."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.thresholds.arguments import accumulate_dtype
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.groups import Dims


@dataclass(frozen=True)
class Hoyer(Penalty):
    """``coef·Σ_s (‖x_s‖₁/‖x_s‖₂ − 1)/(√n − 1)``: per sample 0 if one-hot, 1 if uniform.

    Hoyer's *sparseness* is 1 minus this. A sample of zeros costs 0, with the gradient 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        dim: the dim, or dims, whose n entries form a sample; by default every dim but the first
            (for a vector, its only dim). With a padding mask, each kept position is a sample.

    Raises:
        ValueError: a sample has only one entry.

    Example:
        >>> Hoyer(1.0)(torch.tensor([[0.0, 3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
        tensor(1.)

    Source:
        Hoyer, "Non-negative matrix factorization with sparseness constraints" (2004).
    """

    zero_is_free: ClassVar[bool] = False

    coef: Coefficient
    dim: Dims | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        x = moduli(x)
        if x.numel() == 0:
            return fixed(self.coef) * x.sum(dtype=accumulate_dtype(x))
        dims = _sample_dims(x, self.dim)
        n = math.prod([x.shape[d] for d in dims])
        if n < 2:
            raise InputError(
                f"Hoyer needs samples of two entries or more; with dims {dims}, the samples of a "
                f"tensor of shape {tuple(x.shape)} have one"
            )
        ratio = _norm_ratio(x, dims, at_zero=1.0)
        return fixed(self.coef) * ((ratio - 1) / (math.sqrt(n) - 1)).sum()


@dataclass(frozen=True)
class HoyerSquare(Penalty):
    """``coef·Σ_s ‖x_s‖₁²/‖x_s‖₂²``: per sample between 1 (one-hot) and n (uniform), or 0.

    A sample of zeros costs 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        dim: the dim, or dims, whose entries form a sample; by default every dim but the first.
            For a weight matrix, ``(0, 1)`` makes the matrix one sample, as the source does.

    Example:
        >>> HoyerSquare(1.0)(torch.tensor([[0.0, 3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))
        tensor(5.)

    Source:
        Yang, Wen & Li, "DeepHoyer: learning sparser neural network with differentiable
        scale-invariant sparsity measures" (2020), eq. 3.
    """

    coef: Coefficient
    dim: Dims | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        x = moduli(x)
        if x.numel() == 0:
            return fixed(self.coef) * x.sum(dtype=accumulate_dtype(x))
        ratio = _norm_ratio(x, _sample_dims(x, self.dim), at_zero=0.0)
        return fixed(self.coef) * ratio.square().sum()


def _sample_dims(x: Tensor, dim: Dims | None) -> tuple[int, ...]:
    if dim is not None:
        return dim if isinstance(dim, tuple) else (dim,)
    return tuple(range(1, x.ndim)) or (0,)


def _norm_ratio(x: Tensor, dims: tuple[int, ...], at_zero: float) -> Tensor:
    """``‖x_s‖₁/‖x_s‖₂`` per sample, `at_zero` for a sample of zeros."""
    dtype = accumulate_dtype(x)
    l1 = x.abs().sum(dims, dtype=dtype)
    l2: Tensor = torch.linalg.vector_norm(x, 2, dims, dtype=dtype)
    zero = l2 == 0
    return l1.masked_fill(zero, at_zero) / l2.masked_fill(zero, 1.0)
