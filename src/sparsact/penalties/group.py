"""Penalties that remove whole groups of entries at once."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sparsact._thresholds.arguments import accumulate_dtype, widen
from sparsact._thresholds.group import group_softshrink
from sparsact._thresholds.shrink import softshrink
from sparsact.penalties.elementwise import absolute_sum
from sparsact.penalties.penalty import (
    Coefficient,
    Penalty,
    check_coefficient,
    check_share,
    number,
)
from sparsact.penalties.sharded import gather

Dims = int | tuple[int, ...]
Scale = Literal["sqrt", "none"]
NEWTON_STEPS = 20


@dataclass(frozen=True)
class GroupLasso(Penalty):
    """``coef·Σ_g √p_g·‖x_g‖₂`` over groups g of p_g entries; its gradient at a zero group is 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        dim: the dim, or dims, whose entries form a group. On the weight of ``nn.Linear``, ``1``
            groups the inputs of a unit and ``0`` the outputs that one input feeds; on the
            weight of a convolution, ``(1, 2, 3)`` groups a filter.
        group_size: cut one dim into runs of this size, each a group; by default the whole dim.
        scale: ``"sqrt"`` weighs a group by the root of its size, ``"none"`` does not.

    Raises:
        ValueError: `group_size` does not divide the size of the dim.

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
        groups, dims = split_groups(x, self.dim, self.group_size)
        return number(self.coef) * group_weight(groups, dims, self.scale) * norm_sum(groups, dims)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Each group shrunk by ``(1 − step·coef·√p_g/‖x_g‖)₊``."""
        groups, dims = split_groups(x, self.dim, self.group_size)
        level = _split_step(step, groups) * number(self.coef)
        weight = group_weight(groups, dims, self.scale)
        return shrink_groups(groups, level * weight, dims).reshape(x.shape)


@dataclass(frozen=True)
class SparseGroupLasso(Penalty):
    """``alpha·(l1_ratio·Σ|x| + (1 − l1_ratio)·Σ_g √p_g·‖x_g‖₂)``: zero groups, zeros in the rest.

    Args:
        alpha: coefficient ≥ 0, or a schedule of it.
        l1_ratio: share of the L1 part, in [0, 1].
        dim: the dim, or dims, whose entries form a group, as in :class:`GroupLasso`.
        group_size: cut one dim into runs of this size, each a group; by default the whole dim.
        scale: ``"sqrt"`` weighs a group by the root of its size, ``"none"`` does not.

    Raises:
        ValueError: `group_size` does not divide the size of the dim.

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
        groups, dims = split_groups(x, self.dim, self.group_size)
        grouped = group_weight(groups, dims, self.scale) * norm_sum(groups, dims)
        return number(self.alpha) * (
            self.l1_ratio * gather(absolute_sum(x)) + (1 - self.l1_ratio) * grouped
        )

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage of the entries, then shrinkage of the groups."""
        groups, dims = split_groups(x, self.dim, self.group_size)
        level = _split_step(step, groups) * number(self.alpha)
        sparse = softshrink(widen(groups), level * self.l1_ratio)
        weight = group_weight(groups, dims, self.scale)
        shrunk = shrink_groups(sparse, level * (1 - self.l1_ratio) * weight, dims)
        return shrunk.reshape(x.shape).to(x.dtype)


def split_groups(x: Tensor, dim: Dims, group_size: int | None) -> tuple[Tensor, tuple[int, ...]]:
    """`x`, seen such that each group fills whole dims, and those dims."""
    dims = (dim,) if isinstance(dim, int) else dim
    missing = [d for d in dims if not -x.ndim <= d < x.ndim]
    if missing:
        raise ValueError(f"dim={dim} does not exist in a tensor of shape {tuple(x.shape)}")
    dims = tuple(d % x.ndim for d in dims)
    if group_size is None:
        return x, dims
    size = x.shape[dims[0]]
    if size % group_size:
        raise ValueError(
            f"group_size={group_size} does not divide dim {dim} of size {size} in a tensor of "
            f"shape {tuple(x.shape)}"
        )
    return x.unflatten(dims[0], (size // group_size, group_size)), (dims[0] + 1,)


def group_weight(groups: Tensor, dims: tuple[int, ...], scale: Scale) -> float:
    """The weight of one group: the root of its size, or 1."""
    return math.sqrt(math.prod([groups.shape[d] for d in dims])) if scale == "sqrt" else 1.0


def norm_sum(groups: Tensor, dims: tuple[int, ...]) -> Tensor:
    """``Σ_g ‖x_g‖₂``, in float32 at least, over all shards of a sharded parameter."""
    norms: Tensor = torch.linalg.vector_norm(groups, 2, dims, dtype=accumulate_dtype(groups))
    # torch 2.13 adds up the shards' own norms where a group spans several
    return gather(norms).sum()


def shrink_groups(groups: Tensor, level: float | Tensor, dims: tuple[int, ...]) -> Tensor:
    """``(1 − level/‖x_g‖)₊·x_g``; a group whose norm is at most `level` becomes 0."""
    if isinstance(level, Tensor) and level.ndim:
        return _shrink_groups_by_entry(groups, level, dims)
    return group_softshrink(groups, level, dims)


def _split_step(step: float | Tensor, groups: Tensor) -> float | Tensor:
    return step.reshape(groups.shape) if isinstance(step, Tensor) and step.ndim else step


def _shrink_groups_by_entry(groups: Tensor, level: Tensor, dims: tuple[int, ...]) -> Tensor:
    """``x·n/(n + level)`` per entry, n the root of ``Σ_g (x/(n + level))² = 1``, 0 if it has none.

    Newton on ``1/√Σ − 1``, which is nearly linear in n and is approached from below, as in
    Moré & Sorensen, "Computing a trust region step" (1983).
    """
    wide = widen(groups)
    # in units of the largest entry: cubes of very small or large ones would leave the dtype
    largest = wide.abs().amax(dims, keepdim=True)
    unit = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    x = wide / unit
    level = (level.to(x.dtype) / unit).clamp(min=torch.finfo(x.dtype).tiny)
    dead = (x / level).square().sum(dims, keepdim=True) <= 1
    longest = torch.linalg.vector_norm(x, 2, dims, keepdim=True) - level.amax(dims, keepdim=True)
    size = torch.maximum(longest, (x.abs() - level).amax(dims, keepdim=True)).clamp(min=0)
    for _ in range(NEWTON_STEPS):
        reach = size + level
        squares = (x / reach).square()
        total, slope = (each.sum(dims, keepdim=True) for each in (squares, squares / reach))
        size = size + total * (total.sqrt() - 1) / slope
    shrunk = wide * (size / (size + level))
    return torch.where(dead, 0.0, shrunk).to(groups.dtype)


def _check_groups(dim: Dims, group_size: int | None, scale: str) -> None:
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be one of {get_args(Scale)}, got {scale!r}")
    if group_size is not None and group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    if group_size is not None and not isinstance(dim, int):
        raise ValueError(f"group_size cuts one dim, got dim={dim}")
