"""Duality gaps: how far a code is from the optimum, at most."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparsact.penalties import L1, ElasticNet, GroupLasso, Penalty
from sparsact.penalties.base_penalty import fixed
from sparsact.penalties.group_lasso import group_weight, split_groups

Gap = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Takes signals x, residuals ``x − D(z)``, correlations ``D.adjoint(residual)`` and codes z, each
(batch, …), and gives the gap of each signal, (batch,)."""


def duality_gap(penalty: Penalty, positive: bool) -> Gap | None:
    """The gap of ``½‖x − D(z)‖² + penalty(z)``, or None where it is not known.

    A dual point is the residual, scaled into the dual's feasible set.
    """
    levels = elastic_levels(penalty)
    if levels is not None:
        l1, l2 = levels
        return _elastic_gap(l1, l2, positive) if l1 > 0 or isinstance(penalty, L1) else None
    if isinstance(penalty, GroupLasso) and not positive and not _differs_by_entry(penalty):
        return _group_gap(penalty)
    return None


def elastic_levels(penalty: Penalty) -> tuple[float, float] | None:
    """l1 and l2 of ``l1·‖z‖₁ + ½·l2·‖z‖²``, or None for a penalty that is not of this form."""
    if _differs_by_entry(penalty):
        return None
    if isinstance(penalty, L1):
        return fixed(penalty.coef), 0.0
    if isinstance(penalty, ElasticNet):
        alpha = fixed(penalty.alpha)
        return alpha * penalty.l1_ratio, alpha * (1 - penalty.l1_ratio)
    return None


def _differs_by_entry(penalty: Penalty) -> bool:
    """Whether it has weights, or groups of its own."""
    return any(getattr(penalty, name, None) is not None for name in ("weights", "groups"))


def _elastic_gap(l1: float, l2: float, positive: bool) -> Gap:
    """Of ``l1·‖z‖₁ + ½·l2·‖z‖²``: the lasso of the dictionary with √l2·I below it."""

    def gap(x: Tensor, residual: Tensor, correlation: Tensor, codes: Tensor) -> Tensor:
        ascent = correlation - l2 * codes if l2 else correlation
        largest = rows(ascent if positive else ascent.abs()).amax(1)
        scale = _into_the_dual(largest, l1)
        square = _square(residual) + (l2 * _square(codes) if l2 else 0)
        primal = square / 2 + l1 * rows(codes.abs()).sum(1)
        dual = scale * _dot(x, residual) - scale.square() / 2 * square
        return primal - dual

    return gap


def _group_gap(penalty: GroupLasso) -> Gap:
    coefficient = fixed(penalty.coef)

    def gap(x: Tensor, residual: Tensor, correlation: Tensor, codes: Tensor) -> Tensor:
        groups, dims = split_groups(correlation, penalty.dim, penalty.group_size)
        weight = group_weight(groups, dims, penalty.scale)
        norms = torch.linalg.vector_norm(groups, dim=dims)
        code_groups, _ = split_groups(codes, penalty.dim, penalty.group_size)
        sizes = torch.linalg.vector_norm(code_groups, dim=dims)
        scale = _into_the_dual(rows(norms).amax(1), coefficient * weight)
        square = _square(residual)
        primal = square / 2 + coefficient * weight * rows(sizes).sum(1)
        return primal - (scale * _dot(x, residual) - scale.square() / 2 * square)

    return gap


def rows(x: Tensor) -> Tensor:
    """(batch, …) as (batch, entries)."""
    return x.reshape(len(x), -1)


def _into_the_dual(largest: Tensor, bound: float) -> Tensor:
    return (bound / largest.clamp(min=torch.finfo(largest.dtype).tiny)).clamp(max=1)


def _square(x: Tensor) -> Tensor:
    return rows(x).square().sum(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (rows(a) * rows(b)).sum(1)
