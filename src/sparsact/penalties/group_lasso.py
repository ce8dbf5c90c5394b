"""GroupLasso and SparseGroupLasso: penalties that remove all entries of a group together."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import (
    Coefficient,
    Penalty,
    check_coefficient,
    check_share,
    fixed,
)
from sparsact.penalties.l1_l2 import absolute_sum
from sparsact.penalties.sharded_parameters import gather
from sparsact.thresholds.arguments import accumulate_dtype, widen
from sparsact.thresholds.group_softshrink import group_softshrink
from sparsact.thresholds.groups import Dims, Groups
from sparsact.thresholds.softshrink import softshrink

Scale = Literal["sqrt", "none"]
NEWTON_STEPS = 20


@dataclass(frozen=True)
class GroupLasso(Penalty):
    """``coef·Σ_g √p_g·‖x_g‖₂`` over groups g of p_g entries; its gradient at a zero group is 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        dim: the dim, or dims, whose entries form a group. For the weight of ``nn.Linear``, ``1``
            groups the inputs of a unit and ``0`` the weights of an input; for the weight of a
            convolution, ``(1, 2, 3)`` groups a filter.
        group_size: cut one dim into contiguous groups of this size; by default, all of `dim` is
            one group.
        scale: ``"sqrt"`` multiplies the norm of a group by the square root of its size;
            ``"none"`` does not.

    Raises:
        ValueError: `scale` is unknown, or `group_size` is below 1 or comes with several dims. At
            a call: a dim does not exist, or `group_size` does not divide it.

    Example:
        >>> GroupLasso(0.1, scale="none")(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor(0.5000)
        >>> GroupLasso(1.0, scale="none").prox(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), step=1.0)
        tensor([[2.4000, 3.2000],
                [0.0000, 0.0000]])

    Source:
        Yuan & Lin, "Model selection and estimation in regression with grouped variables" (2006).
    """

    coef: Coefficient
    dim: Dims = -1
    group_size: int | None = None
    scale: Scale = "sqrt"

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        _check_groups(self.dim, self.group_size, self.scale)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        split, dims = split_groups(x, self.dim, self.group_size)
        return fixed(self.coef) * group_weight(split, dims, self.scale) * _norm_sum(split, dims)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Each group times ``max(1 − step·coef·√p_g/‖x_g‖, 0)``."""
        split, dims = split_groups(x, self.dim, self.group_size)
        lambd = _split_step(step, split) * fixed(self.coef)
        weight = group_weight(split, dims, self.scale)
        return _shrink_groups(split, lambd * weight, dims).reshape(x.shape)


@dataclass(frozen=True)
class SparseGroupLasso(Penalty):
    """``alpha·(l1_ratio·Σ|x| + (1 − l1_ratio)·Σ_g √p_g·‖x_g‖₂)``: zero groups and single zeros.

    Args:
        alpha: coefficient ≥ 0, or a schedule of it.
        l1_ratio: share of the L1 part, in [0, 1].
        dim: the dim, or dims, whose entries form a group, as in :class:`GroupLasso`.
        group_size: the size of the groups, as in :class:`GroupLasso`.
        scale: the weight of a group, as in :class:`GroupLasso`.

    Raises:
        ValueError: `scale` is unknown, or `group_size` is below 1 or comes with several dims. At
            a call: a dim does not exist, or `group_size` does not divide it.

    Example:
        >>> SparseGroupLasso(1.0, l1_ratio=0.5, scale="none")(torch.tensor([[3.0, 4.0]]))
        tensor(6.)

    Source:
        Simon, Friedman, Hastie & Tibshirani, "A sparse-group lasso" (2013).
    """

    alpha: Coefficient
    l1_ratio: float = 0.5
    dim: Dims = -1
    group_size: int | None = None
    scale: Scale = "sqrt"

    def __post_init__(self) -> None:
        check_coefficient(self.alpha, "alpha")
        check_share(self.l1_ratio, "l1_ratio")
        _check_groups(self.dim, self.group_size, self.scale)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        split, dims = split_groups(x, self.dim, self.group_size)
        grouped = group_weight(split, dims, self.scale) * _norm_sum(split, dims)
        return fixed(self.alpha) * (
            self.l1_ratio * gather(absolute_sum(x)) + (1 - self.l1_ratio) * grouped
        )

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage of the entries, then shrinkage of the groups."""
        split, dims = split_groups(x, self.dim, self.group_size)
        lambd = _split_step(step, split) * fixed(self.alpha)
        sparse = softshrink(widen(split), lambd * self.l1_ratio)
        weight = group_weight(split, dims, self.scale)
        shrunk = _shrink_groups(sparse, lambd * (1 - self.l1_ratio) * weight, dims)
        return shrunk.reshape(x.shape).to(x.dtype)


def split_groups(x: Tensor, dim: Dims, group_size: int | None) -> tuple[Tensor, tuple[int, ...]]:
    """A view of `x` in which some dims hold exactly one group, and these dims."""
    if x.ndim == 0:
        raise InputError(f"dim={dim} does not exist in an input of shape ()")
    groups = Groups(x, dim, group_size)
    return groups.split(x), groups.dims


def group_weight(split: Tensor, dims: tuple[int, ...], scale: Scale) -> float:
    """The weight of a group: the square root of its size, or 1."""
    return math.sqrt(math.prod([split.shape[d] for d in dims])) if scale == "sqrt" else 1.0


def _norm_sum(split: Tensor, dims: tuple[int, ...]) -> Tensor:
    """``Σ_g ‖x_g‖₂``, in float32 at least, over all shards of a sharded parameter."""
    norms: Tensor = torch.linalg.vector_norm(split, 2, dims, dtype=accumulate_dtype(split))
    # without gather(), torch 2.13 would add the norms that each shard has of its part of a group
    return gather(norms).sum()


def _shrink_groups(split: Tensor, lambd: float | Tensor, dims: tuple[int, ...]) -> Tensor:
    """``max(1 − λ/‖x_g‖, 0)·x_g`` for one λ per tensor or per entry."""
    if isinstance(lambd, Tensor) and lambd.ndim:
        return _shrink_groups_by_entry(split, lambd, dims)
    return group_softshrink(split, lambd, dims)


def _split_step(step: float | Tensor, split: Tensor) -> float | Tensor:
    return step.reshape(split.shape) if isinstance(step, Tensor) and step.ndim else step


def _shrink_groups_by_entry(split: Tensor, lambd: Tensor, dims: tuple[int, ...]) -> Tensor:
    """``x·n/(n + λ)`` for one λ per entry; n solves ``Σ_g (x/(n + λ))² = 1``, no solution gives 0.

    Newton's method on ``1/√Σ − 1``, which is nearly linear in n, from below, as in
    Moré & Sorensen, "Computing a trust region step" (1983).
    """
    wide = widen(split)
    # in units of the largest entry: cubes of very small or large entries leave the dtype's range
    largest = wide.abs().amax(dims, keepdim=True)
    unit = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    x = wide / unit
    lambd = (lambd.to(x.dtype) / unit).clamp(min=torch.finfo(x.dtype).tiny)
    dead = (x / lambd).square().sum(dims, keepdim=True) <= 1
    longest = torch.linalg.vector_norm(x, 2, dims, keepdim=True) - lambd.amax(dims, keepdim=True)
    size = torch.maximum(longest, (x.abs() - lambd).amax(dims, keepdim=True)).clamp(min=0)
    for _ in range(NEWTON_STEPS):
        reach = size + lambd
        squares = (x / reach).square()
        total, slope = (each.sum(dims, keepdim=True) for each in (squares, squares / reach))
        size = size + total * (total.sqrt() - 1) / slope
    shrunk = wide * (size / (size + lambd))
    return torch.where(dead, 0.0, shrunk).to(split.dtype)


def _check_groups(dim: Dims, group_size: int | None, scale: str) -> None:
    if scale not in get_args(Scale):
        raise InputError(f"scale= must be one of {get_args(Scale)}, got {scale!r}")
    if group_size is not None and group_size < 1:
        raise InputError(f"group_size= must be at least 1, got {group_size}")
    if group_size is not None and isinstance(dim, tuple):
        raise InputError(f"group_size cuts one dim, got dim={dim}")
