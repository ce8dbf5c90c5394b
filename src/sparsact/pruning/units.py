"""Units: entries of parameters that can only be removed together, and those that must stay."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

NO_UNIT = 0
"""The label of an entry that belongs to no unit, for example of the model's input."""

Slot = tuple[str, int]
"""A parameter or buffer, by name, and a dim of it."""


@dataclass
class Units:
    """A union-find over the indices of all slots.

    Attributes:
        slots: slot → the label of each of its indices.
        fixed: root → the reason why its units must stay.
    """

    slots: dict[Slot, Tensor] = field(default_factory=dict)
    fixed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._parents = [NO_UNIT]
        self._roots: Tensor | None = None

    def __len__(self) -> int:
        return len(self._parents)

    def slot(self, name: str, dim: int, size: int) -> Tensor:
        """Return the labels of a slot, which is created at the first call."""
        if (name, dim) not in self.slots:
            start = len(self._parents)
            self._parents.extend(range(start, start + size))
            self._roots = None
            self.slots[name, dim] = torch.arange(start, start + size)
            if size == 1:
                self.fixed[start] = "a layer keeps at least one unit"
        return self.slots[name, dim]

    def roots(self, labels: Tensor) -> Tensor:
        """The label that stands for all units removed together with each label."""
        if self._roots is None:
            self._roots = torch.tensor([self._find(i) for i in range(len(self._parents))])
        return self._roots[labels]

    def free(self, labels: Tensor) -> Tensor:
        """The roots, with `NO_UNIT` for units that must stay."""
        roots = self.roots(labels)
        if self.fixed:
            stay = torch.zeros(len(self._parents), dtype=torch.bool)
            stay[list(self.fixed)] = True
            roots = roots.masked_fill(stay[roots], NO_UNIT)
        return roots

    def fix(self, labels: Tensor, reason: str) -> None:
        """Keep the units of all labels."""
        for root in self.free(labels).unique().tolist():
            if root != NO_UNIT:
                self.fixed[root] = reason

    def unite(self, left: Tensor, right: Tensor, reason: str) -> None:
        """Couple the units of two equally shaped label tensors, entry by entry.

        A unit coupled with an entry that belongs to none must stay, for the given reason.
        """
        left, right = self.roots(left), self.roots(right)
        differ = left != right
        if not differ.any():
            return
        pairs = torch.stack([left[differ], right[differ]]).unique(dim=1)
        for a, b in pairs.T.tolist():
            self._join(self._find(a), self._find(b), reason)
        self._roots = None

    def _join(self, a: int, b: int, reason: str) -> None:
        if a == b:
            return
        if NO_UNIT in (a, b):
            self.fixed.setdefault(a + b, reason)
            return
        self._parents[b] = a
        for why in (self.fixed.pop(b, None), self.fixed.get(a)):
            if why is not None:
                self.fixed[a] = why

    def _find(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label


def varies(labels: Tensor, dim: int) -> bool:
    """Whether labels differ along a dim."""
    if labels.numel() == 0 or labels.shape[dim] < 2 or labels.stride(dim) == 0:
        return False
    return bool((labels != labels.narrow(dim, 0, 1)).any())


def uniform(values: Tensor, dims: list[int]) -> Tensor:
    """The value that all entries along these dims share (kept with size 1), or NaN."""
    for dim in dims:
        first = values.narrow(dim, 0, 1)
        equal = values.eq(first).all(dim, keepdim=True)
        values = torch.where(equal, first, torch.nan)
    return values
