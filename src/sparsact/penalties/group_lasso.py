"""GroupLasso and SparseGroupLasso: penalties that remove all entries of a group together."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

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
from sparsact.penalties.entry_metric import (
    refuse_parts,
    shrink_complex_groups_by_entry,
    shrink_groups_by_entry,
)
from sparsact.penalties.l1_l2 import Weights, absolute_sum, check_weights
from sparsact.penalties.sharded_parameters import gather
from sparsact.thresholds.arguments import accumulate_dtype, widen
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.group_softshrink import group_softshrink
from sparsact.thresholds.groups import Dims, Groups
from sparsact.thresholds.index_groups import IndexGroups, IndexLists, check_index_lists, make_groups
from sparsact.thresholds.softshrink import softshrink

Scale = Literal["sqrt", "none"]


@dataclass(frozen=True)
class GroupLasso(Penalty):
    """``coef·Σ_g w_g·√p_g·‖x_g‖₂`` over groups of p_g entries; its gradient at a zero group is 0.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        dim: the dim, or dims, whose entries form a group. For the weight of ``nn.Linear``, ``1``
            groups the inputs of a unit and ``0`` the weights of an input; for the weight of a
            convolution, ``(1, 2, 3)`` groups a filter.
        group_size: cut one dim into contiguous groups of this size; by default, all of `dim` is
            one group.
        scale: ``"sqrt"`` multiplies the norm of a group by the square root of its size;
            ``"none"`` does not.
        groups: lists of indices along `dim` (the last one of several dims), one per group, such
            as ``[[0, 1, 2], [3, 4]]``. Groups may not overlap, because there is no prox in closed
            form then. Entries in no group are not penalised.
        weights: w_g ≥ 0, a further factor of each norm: one number per list of `groups`, or a
            tensor that broadcasts to the shape of the norms.

    Raises:
        ValueError: `scale` is unknown, or `group_size` is below 1 or comes with several dims;
            `groups` overlap or are empty; a weight is negative or not finite. At a call: a dim or
            an index does not exist, `group_size` does not divide the dim, or `weights` do not
            broadcast.

    Example:
        >>> GroupLasso(0.1, scale="none")(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor(0.5000)
        >>> GroupLasso(1.0, scale="none").prox(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), step=1.0)
        tensor([[2.4000, 3.2000],
                [0.0000, 0.0000]])
        >>> penalty = GroupLasso(1.0, groups=[[0, 2], [1]], scale="none")
        >>> penalty.prox(torch.tensor([3.0, 0.5, 4.0]), step=1.0)
        tensor([2.4000, 0.0000, 3.2000])

    Source:
        Yuan & Lin, "Model selection and estimation in regression with grouped variables" (2006).
    """

    prox_is_entrywise: ClassVar[bool] = False

    coef: Coefficient
    dim: Dims = -1
    group_size: int | None = None
    scale: Scale = "sqrt"
    groups: IndexLists | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        _check(self)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        return fixed(self.coef) * _norm_total(x, self)

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Each group times ``max(1 − step·coef·w_g·√p_g/‖x_g‖, 0)``."""
        return _shrink_groups(x, step * fixed(self.coef), self)


@dataclass(frozen=True)
class SparseGroupLasso(Penalty):
    """``alpha·(l1_ratio·Σ|x| + (1 − l1_ratio)·Σ_g √p_g·‖x_g‖₂)``: zero groups and single zeros.

    Args:
        alpha: coefficient ≥ 0, or a schedule of it.
        l1_ratio: share of the L1 part, in [0, 1].
        dim: the dim, or dims, whose entries form a group, as in :class:`GroupLasso`.
        group_size: the size of the groups, as in :class:`GroupLasso`.
        scale: the weight of a group, as in :class:`GroupLasso`.
        groups: lists of indices, as in :class:`GroupLasso`. Entries in no group only have the L1
            part.
        weights: further weights of the norms, as in :class:`GroupLasso`.

    Raises:
        ValueError: `scale` is unknown, or `group_size` is below 1 or comes with several dims. At
            a call: a dim does not exist, or `group_size` does not divide it.

    Example:
        >>> SparseGroupLasso(1.0, l1_ratio=0.5, scale="none")(torch.tensor([[3.0, 4.0]]))
        tensor(6.)

    Source:
        Simon, Friedman, Hastie & Tibshirani, "A sparse-group lasso" (2013).
    """

    prox_is_entrywise: ClassVar[bool] = False

    alpha: Coefficient
    l1_ratio: float = 0.5
    dim: Dims = -1
    group_size: int | None = None
    scale: Scale = "sqrt"
    groups: IndexLists | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        check_coefficient(self.alpha, "alpha")
        check_share(self.l1_ratio, "l1_ratio")
        _check(self)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        grouped = _norm_total(x, self)
        return fixed(self.alpha) * (
            self.l1_ratio * gather(absolute_sum(x)) + (1 - self.l1_ratio) * grouped
        )

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """Soft shrinkage of the entries, then shrinkage of the groups."""
        refuse_parts(self, step)
        lambd = step * fixed(self.alpha)
        sparse = softshrink(x if x.is_complex() else widen(x), lambd * self.l1_ratio)
        return _shrink_groups(sparse, lambd * (1 - self.l1_ratio), self).to(x.dtype)


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


def _grouping(x: Tensor, penalty: GroupLasso | SparseGroupLasso) -> Groups:
    if x.ndim == 0:
        raise InputError(f"dim={penalty.dim} does not exist in an input of shape ()")
    return make_groups(x, penalty.dim, penalty.group_size, penalty.groups)


def _weights(x: Tensor, penalty: GroupLasso | SparseGroupLasso, groups: Groups) -> float | Tensor:
    """What multiplies the norms of the groups: a number, or a tensor that broadcasts to them."""
    root: float | Tensor = 1.0
    if penalty.scale == "sqrt":
        entries = groups.entries(groups.split(x))
        if isinstance(entries, Tensor):
            root = entries.to(accumulate_dtype(x)).sqrt()
        else:
            root = math.sqrt(entries)
    if penalty.weights is None:
        return root
    weights = torch.as_tensor(penalty.weights, device=x.device, dtype=accumulate_dtype(x))
    if isinstance(groups, IndexGroups) and weights.ndim == 1:
        weights = groups.along(weights)
    return root * groups.broadcast(weights, "weights")


def _norm_total(x: Tensor, penalty: GroupLasso | SparseGroupLasso) -> Tensor:
    """``Σ_g w_g·√p_g·‖x_g‖₂``."""
    x = moduli(x)
    if penalty.groups is None and penalty.weights is None:
        split, dims = split_groups(x, penalty.dim, penalty.group_size)
        return group_weight(split, dims, penalty.scale) * _norm_sum(split, dims)
    groups = _grouping(x, penalty)
    norms = groups.per_group(groups.norm(groups.split(widen(x))))
    total: Tensor = (_weights(x, penalty, groups) * gather(norms)).sum()
    return total


def _shrink_groups(
    x: Tensor, lambd: float | Tensor, penalty: GroupLasso | SparseGroupLasso
) -> Tensor:
    """``max(1 − λw_g/‖x_g‖, 0)·x_g`` for one λ per tensor or per entry."""
    groups = _grouping(x, penalty)
    weights = _weights(x, penalty, groups)
    if not isinstance(lambd, Tensor) or lambd.ndim == 0:
        level = lambd * weights
        return group_softshrink(x, level, penalty.dim, penalty.group_size, groups=penalty.groups)
    split = groups.split(x)
    by_entry = groups.split(lambd.expand(x.shape)) * (
        groups.widen_lambd(weights, widen(moduli(split)))
        if isinstance(weights, Tensor)
        else weights
    )
    shrink = shrink_complex_groups_by_entry if x.is_complex() else shrink_groups_by_entry
    shrunk = groups.join(shrink(split, by_entry, groups))
    members = groups.members(x, None)
    return shrunk if members is None else torch.where(members, shrunk, x)


def check_scale(scale: str) -> None:
    """Raise InputError unless `scale` is valid."""
    if scale not in get_args(Scale):
        raise InputError(f"scale= must be one of {get_args(Scale)}, got {scale!r}")


def _check(penalty: GroupLasso | SparseGroupLasso) -> None:
    dim, group_size, scale = penalty.dim, penalty.group_size, penalty.scale
    check_scale(scale)
    if group_size is not None and group_size < 1:
        raise InputError(f"group_size= must be at least 1, got {group_size}")
    if group_size is not None and isinstance(dim, tuple):
        raise InputError(f"group_size cuts one dim, got dim={dim}")
    if penalty.groups is not None:
        # the dataclass is frozen; tuples keep it hashable
        lists = check_index_lists(penalty.groups, group_size)
        object.__setattr__(penalty, "groups", lists)
    check_weights(penalty.weights)
