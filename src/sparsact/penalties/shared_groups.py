"""What penalties on groups that share entries have in common."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Coefficient, Penalty, check_coefficient, fixed
from sparsact.penalties.entry_metric import prox_of_modulus
from sparsact.penalties.group_lasso import Scale, check_scale
from sparsact.penalties.l1_l2 import Weights, check_weights
from sparsact.penalties.sorted_l1 import check_joint_prox
from sparsact.penalties.total_variation import check_accuracy
from sparsact.thresholds.index_groups import IndexLists, check_index_lists


@dataclass(frozen=True)
class SharedGroups(Penalty):
    """Abstract base: groups by lists of indices that may share entries, and an iterated prox."""

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

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """The prox of the rows along `dim`; of complex entries that of their moduli."""
        if x.is_complex():
            return prox_of_modulus(self, x, step)
        check_joint_prox(self, x, step)
        lines = self._lines(x.double())
        if x.numel() == 0:
            return x.clone()
        radius = step * fixed(self.coef) * self._levels(lines)
        left = self._shrink(lines, Overlap(lines, self.groups), radius)
        shape = x.movedim(self.dim, -1).shape
        return left.reshape(shape).movedim(-1, self.dim).to(x.dtype)

    @abstractmethod
    def _shrink(self, lines: Tensor, overlap: "Overlap", radius: Tensor) -> Tensor:
        """The prox of rows (samples, entries) in float64; `radius` is one number per group."""

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
        if self.weights is None:
            return levels
        return levels * torch.as_tensor(self.weights, dtype=lines.dtype, device=lines.device)


class Overlap:
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
        """The copies of the entries."""
        return u.index_select(1, self.places)

    def adjoint(self, dual: Tensor) -> Tensor:
        """The sum of the copies of each entry."""
        return dual.new_zeros(len(dual), self.size).index_add(1, self.places, dual)

    def norms(self, dual: Tensor) -> Tensor:
        """The norm of each group, (samples, groups)."""
        squares = dual.new_zeros(len(dual), self.count).index_add(1, self.labels, dual.square())
        zero = squares == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())

    def spread(self, values: Tensor) -> Tensor:
        """The value of its group for each copy."""
        return values.index_select(1, self.labels)
