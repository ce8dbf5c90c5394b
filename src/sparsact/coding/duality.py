"""Duality gaps: how far a code is from the optimum, at most."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact.penalties import L1, ElasticNet, GroupLasso, Penalty
from sparsact.penalties.base_penalty import fixed
from sparsact.penalties.group_lasso import group_weight, split_groups

Gap = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Takes signals x, residuals ``x − D(z)``, correlations ``D.adjoint(residual)`` and codes z, each
(batch, …), and gives the gap of each signal, (batch,)."""


@dataclass(frozen=True)
class ElasticLevels:
    """A penalty of the form ``l1·Σ w|z| + ½·l2·Σ w|z|²``.

    Attributes:
        l1: its coefficient, a number or a tensor that is differentiated.
        l2: likewise.
        weights: w, which broadcasts to the codes; None for 1.
    """

    l1: float
    l2: float
    weights: Tensor | None

    @property
    def weights_are_positive(self) -> bool:
        """Whether no entry is free of the penalty."""
        return self.weights is None or bool((self.weights > 0).all())


def duality_gap(penalty: Penalty, positive: bool) -> Gap | None:
    """The gap of ``½‖x − D(z)‖² + penalty(z)``, or None where it is not known.

    A dual point is the residual, scaled into the dual's feasible set.
    """
    levels = elastic_levels(penalty)
    if levels is not None:
        known = (levels.l1 > 0 or isinstance(penalty, L1)) and levels.weights_are_positive
        return _elastic_gap(levels, positive) if known else None
    if isinstance(penalty, GroupLasso) and not positive and not _has_own_groups(penalty):
        return _group_gap(penalty)
    return None


def elastic_levels(penalty: Penalty) -> ElasticLevels | None:
    """The levels of an L1 or ElasticNet, or None for a penalty of another form."""
    if not isinstance(penalty, (L1, ElasticNet)):
        return None
    weights = penalty.weights
    if weights is not None and not isinstance(weights, Tensor):
        weights = torch.tensor(weights, dtype=torch.float64)
    if isinstance(penalty, L1):
        return ElasticLevels(fixed(penalty.coef), 0.0, weights)
    alpha = fixed(penalty.alpha)
    return ElasticLevels(alpha * penalty.l1_ratio, alpha * (1 - penalty.l1_ratio), weights)


def _has_own_groups(penalty: GroupLasso) -> bool:
    """Whether it has weights, or groups by index lists."""
    return penalty.weights is not None or penalty.groups is not None


def _elastic_gap(levels: ElasticLevels, positive: bool) -> Gap:
    """The gap of the lasso of the dictionary with √(l2·w)·I below it."""
    l1, l2 = levels.l1, levels.l2

    def gap(x: Tensor, residual: Tensor, correlation: Tensor, codes: Tensor) -> Tensor:
        size = codes.abs()
        weights = None if levels.weights is None else levels.weights.to(size)
        ridge = l2 if weights is None else l2 * weights
        ascent = correlation - ridge * codes if l2 else correlation
        steep = ascent if positive else ascent.abs()
        largest = rows(steep if weights is None else steep / weights).amax(1)
        scale = _into_the_dual(largest, l1)
        bent = codes if weights is None else codes * weights.sqrt()
        square = _square(residual) + (l2 * _square(bent) if l2 else 0)
        primal = square / 2 + l1 * rows(size if weights is None else size * weights).sum(1)
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
    return x.flatten(1)  # of no rows too, which reshape(len(x), -1) refuses


def _into_the_dual(largest: Tensor, bound: float) -> Tensor:
    return (bound / largest.clamp(min=torch.finfo(largest.dtype).tiny)).clamp(max=1)


def real_rows(x: Tensor) -> Tensor:
    """(batch, …) as (batch, entries); a complex entry as its real and its imaginary part."""
    return rows(torch.view_as_real(x.resolve_conj()) if x.is_complex() else x)


def _square(x: Tensor) -> Tensor:
    return real_rows(x).square().sum(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The real part of the inner product of each row."""
    return (real_rows(a) * real_rows(b)).sum(1)
