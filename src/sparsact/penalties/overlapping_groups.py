"""OverlappingGroupLasso: groups that share entries."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.dual_prox import DualProx
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.group_lasso import Scale, check_scale
from sparsact.penalties.l1_l2 import Weights, check_weights
from sparsact.penalties.sharded_parameters import gather
from sparsact.penalties.sorted_l1 import check_joint_prox
from sparsact.penalties.total_variation import check_accuracy
from sparsact.thresholds.arguments import widen
from sparsact.thresholds.complex_modulus import moduli
from sparsact.thresholds.index_groups import IndexLists, check_index_lists


@dataclass(frozen=True)
class OverlappingGroupLasso(Penalty):
    """``coef·Σ_g w_g·√p_g·‖x_g‖₂`` over groups that may share entries.

    An entry is zero as soon as one of its groups is: what stays is the complement of a union of
    groups. Groups that contain one another give trees. The prox has no closed form; it is found by
    FISTA on the dual up to `tol`, and its zeros are exact. The latent penalty, with which the
    entries that stay are a union of groups, is :class:`GroupLasso` on a dictionary that repeats an
    atom for each of its groups; the code of an atom is the sum over its copies.

    Args:
        coef: coefficient ≥ 0, or a schedule of it.
        groups: lists of indices along `dim`, one per group, such as ``[[0, 1, 2], [2, 3]]``.
            Entries in no group are not penalised.
        dim: the dim of the indices; the other dims are samples.
        scale: ``"sqrt"`` multiplies the norm of a group by the square root of its size;
            ``"none"`` does not.
        weights: w_g ≥ 0, one number per group; by default 1.
        tol: the relative duality gap at which the prox stops.
        steps: the most steps of the prox.

    Gradient:
        exact; 0 at a zero group. In the prox, the steps are recorded.

    Raises:
        InputError: no group, an empty one, a negative index or one that occurs twice in a group,
            weights of another length or below 0. At a call: an index does not exist. At a prox: a
            step size per entry or a sharded weight.

    Warns:
        UserWarning: a prox used all its steps before it reached `tol`.

    Example:
        >>> penalty = OverlappingGroupLasso(1.0, [[0, 1], [1, 2]], scale="none")
        >>> penalty(torch.tensor([3.0, 4.0, 0.0]))
        tensor(9.)
        >>> penalty.prox(torch.tensor([5.0, 0.1, 0.2]), step=1.0).round(decimals=3)
        tensor([4., 0., 0.])

    Source:
        Jenatton, Audibert & Bach, "Structured variable selection with sparsity-inducing norms"
        (2011).
    """

    prox_is_entrywise: ClassVar[bool] = False

    coef: Coefficient
    groups: IndexLists
    dim: int = -1
    scale: Scale = "sqrt"
    weights: Weights | None = None
    tol: float = 1e-10
    steps: int = 2000

    def __post_init__(self) -> None:
        check_coefficient(self.coef, "coef")
        check_scale(self.scale)
        check_accuracy(self.tol, self.steps)
        check_weights(self.weights)
        # the dataclass is frozen; tuples keep it hashable
        lists = check_index_lists(self.groups, may_overlap=True)
        object.__setattr__(self, "groups", lists)
        if self.weights is not None and len(self.weights) != len(lists):
            raise InputError(
                f"weights= must have one number per group, got {len(self.weights)} for "
                f"{len(lists)} groups"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar."""
        lines = self._lines(widen(moduli(gather(x))))
        overlap = _Overlap(lines, self.groups)
        return fixed(self.coef) * (self._levels(lines) * overlap.norms(overlap.apply(lines))).sum()

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """``x − Σ_g ξ_g`` with dual vectors ξ_g of norm at most ``step·coef·w_g·√p_g``."""
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        check_joint_prox(self, x, step)
        lines = self._lines(x.double())
        if x.numel() == 0:
            return x.clone()
        overlap = _Overlap(lines, self.groups)
        radius = step * fixed(self.coef) * self._levels(lines)
        solver = DualProx(overlap, radius, self.tol, self.steps, "OverlappingGroupLasso")
        shrunk, zero = solver.solve(lines)
        dead = overlap.adjoint(overlap.spread(zero.to(lines))) > 0
        shape = x.movedim(self.dim, -1).shape
        left = torch.where(dead & lines.isfinite(), 0.0, shrunk)
        return left.reshape(shape).movedim(-1, self.dim).to(x.dtype)

    def _lines(self, x: Tensor) -> Tensor:
        """(samples, entries of the indexed dim)."""
        if not -x.ndim <= self.dim < x.ndim:
            raise InputError(f"dim={self.dim} does not exist in an input of shape {tuple(x.shape)}")
        size, largest = x.shape[self.dim], max(max(group) for group in self.groups)
        if largest >= size and x.numel():
            raise InputError(
                f"groups= contains the index {largest}, but dim {self.dim} of the input of shape "
                f"{tuple(x.shape)} has size {size}"
            )
        return x.movedim(self.dim, -1).reshape(x.numel() // max(size, 1), size)

    def _levels(self, lines: Tensor) -> Tensor:
        """w_g·√p_g, (groups,)."""
        roots = [math.sqrt(len(group)) if self.scale == "sqrt" else 1.0 for group in self.groups]
        levels = lines.new_tensor(roots)
        return levels if self.weights is None else levels * torch.as_tensor(self.weights).to(lines)


class _Overlap:
    """Copies each entry into every group that has it: (samples, entries) to (samples, copies)."""

    def __init__(self, lines: Tensor, groups: IndexLists) -> None:
        self.size, self.count = lines.shape[1], len(groups)
        places: list[int] = []
        labels: list[int] = []
        for label, group in enumerate(groups if lines.numel() else ()):
            places += group
            labels += [label] * len(group)
        self.places, self.labels = (
            torch.tensor(each, dtype=torch.long, device=lines.device) for each in (places, labels)
        )
        copies = [0] * (1 + max(places, default=0))
        for place in places:
            copies[place] += 1
        self.bound = float(max(1, *copies))

    def apply(self, u: Tensor) -> Tensor:
        return u.index_select(1, self.places)

    def adjoint(self, dual: Tensor) -> Tensor:
        return dual.new_zeros(len(dual), self.size).index_add(1, self.places, dual)

    def norms(self, dual: Tensor) -> Tensor:
        squares = dual.new_zeros(len(dual), self.count).index_add(1, self.labels, dual.square())
        zero = squares == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())

    def spread(self, values: Tensor) -> Tensor:
        return values.index_select(1, self.labels)
