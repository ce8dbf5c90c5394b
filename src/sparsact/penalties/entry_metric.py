"""Proximal operators in the metric of an optimizer that has one step size per entry."""

from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Penalty
from sparsact.thresholds.arguments import widen
from sparsact.thresholds.complex_modulus import by_modulus

NEWTON_STEPS = 20


class Reductions(Protocol):
    """Sums and the like over groups, of shapes that broadcast to that of the tensor."""

    def sum(self, split: Tensor) -> Tensor:
        """The sum over each group."""

    def amax(self, split: Tensor) -> Tensor:
        """The largest entry of each group."""

    def length(self, split: Tensor) -> Tensor:
        """The Euclidean norm of each group."""


def shrink_groups_by_entry(x: Tensor, lambd: Tensor, groups: Reductions) -> Tensor:
    """``x·n/(n + λ)`` for one λ per entry; n solves ``Σ_g (x/(n + λ))² = 1``, no solution gives 0.

    Newton's method on ``1/√Σ − 1``, which is nearly linear in n, from below, as in
    Moré & Sorensen, "Computing a trust region step" (1983).

    Args:
        x: real, any shape.
        lambd: of the shape of `x`.
        groups: the groups of `x`.
    """
    wide = widen(x)
    # in units of the largest entry: cubes of very small or large entries leave the dtype's range
    peak = groups.amax(wide.abs())
    unit = torch.where((peak > 0) & peak.isfinite(), peak, 1.0)
    scaled = wide / unit
    lambd = (lambd.to(scaled.dtype) / unit).clamp(min=torch.finfo(scaled.dtype).tiny)
    dead = groups.sum((scaled / lambd).square()) <= 1
    longest = groups.length(scaled) - groups.amax(lambd)
    size = torch.maximum(longest, groups.amax(scaled.abs() - lambd)).clamp(min=0)
    for _ in range(NEWTON_STEPS):
        reach = size + lambd
        squares = (scaled / reach).square()
        total, slope = groups.sum(squares), groups.sum(squares / reach)
        size = size + total * (total.sqrt() - 1) / slope
    shrunk = wide * (size / (size + lambd))
    return torch.where(dead, 0.0, shrunk).to(x.dtype)


class _Parts:
    """The groups of the real and the imaginary parts, (…, 2), of a tensor with complex groups.

    Args:
        groups: the groups of the complex entries; None if each entry is one.
    """

    def __init__(self, groups: Reductions | None) -> None:
        self._groups = groups

    def sum(self, split: Tensor) -> Tensor:
        return self._over_groups("sum", split.sum(-1))

    def amax(self, split: Tensor) -> Tensor:
        return self._over_groups("amax", split.amax(-1))

    def length(self, split: Tensor) -> Tensor:
        return self._over_groups("length", torch.linalg.vector_norm(split, dim=-1))

    def _over_groups(self, name: str, entries: Tensor) -> Tensor:
        values = entries if self._groups is None else getattr(self._groups, name)(entries)
        spread: Tensor = values.unsqueeze(-1)
        return spread


def shrink_complex_groups_by_entry(x: Tensor, lambd: Tensor, groups: Reductions | None) -> Tensor:
    """:func:`shrink_groups_by_entry` for complex `x`, by its real and imaginary parts.

    A complex λ has one value for each of them. With None, each entry is a group.
    """
    shrunk = shrink_groups_by_entry(
        torch.view_as_real(x.resolve_conj()), parts(lambd), _Parts(groups)
    )
    return torch.view_as_complex(shrunk.contiguous())


def parts(step: Tensor) -> Tensor:
    """A real or complex tensor as (…, 2), one number for each real and each imaginary part."""
    if step.is_complex():
        return torch.view_as_real(step.resolve_conj())
    return step.unsqueeze(-1).expand(*step.shape, 2)


def has_parts(step: float | Tensor) -> TypeGuard[Tensor]:
    """Whether `step` has one number for each real and each imaginary part."""
    return isinstance(step, Tensor) and step.is_complex()


def scale_parts(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the real and the imaginary parts of `x` by those of `factor`."""
    return torch.complex(x.real * factor.real, x.imag * factor.imag)


def reciprocal_parts(growth: Tensor) -> Tensor:
    """``1/(1 + growth)`` of the real and the imaginary parts."""
    return torch.complex(1 / (1 + growth.real), 1 / (1 + growth.imag))


def prox_of_modulus(penalty: Penalty, x: Tensor, step: float | Tensor) -> Tensor:
    """The prox of a penalty on complex `x`: that on the moduli, with the phases of `x`."""
    refuse_parts(penalty, step)
    return by_modulus(x, lambda size: penalty.prox(size, step))


def refuse_parts(penalty: Penalty, step: float | Tensor) -> None:
    """Raise ValueError if `step` has one number for each real and each imaginary part."""
    if has_parts(step):
        raise InputError(
            f"{type(penalty).__name__} has no prox in closed form for complex weights when real "
            "and imaginary parts have their own step sizes, as in Adam; use SGD, or one of L1, "
            "L2, ElasticNet and GroupLasso"
        )
