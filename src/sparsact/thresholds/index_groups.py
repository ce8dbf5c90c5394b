"""Groups that are given by lists of indices."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_mask, widen_like
from sparsact.thresholds.backward import sum_to
from sparsact.thresholds.groups import Dims, Groups

IndexLists = Sequence[Sequence[int]]


class IndexGroups(Groups):
    """Groups of arbitrary indices along one dim; entries in no group belong to none.

    Results that have one value per group are spread over the entries, which takes the place of
    the broadcasting of :class:`Groups`. Entries in no group share such a value, with λ = 0; set
    them to 0 first, and use :meth:`members` as the mask.

    Args:
        x: the tensor; its shape and device are read.
        dim: the dim of the indices. Of several dims the last one; the groups span the others.
        groups: the lists of indices, one per group, without a common index.

    Raises:
        ValueError: an index does not exist, or a condition of :func:`check_index_lists` fails.
    """

    def __init__(self, x: Tensor, dim: Dims, groups: IndexLists) -> None:
        if x.ndim == 0:
            raise InputError("groups= needs an input with at least one dim, got shape ()")
        self._count = len(groups)
        super().__init__(x, dim, None)
        labels = [self._count] * x.shape[self.dims[-1]]
        for label, indices in enumerate(groups):
            for index in indices:
                if index >= len(labels):
                    raise InputError(
                        f"groups= contains the index {index}, but dim {self.dims[-1]} of the "
                        f"input of shape {tuple(x.shape)} has size {len(labels)}"
                    )
                labels[index] = label
        self._labels = torch.tensor(labels, device=x.device)
        self._first = torch.tensor([indices[0] for indices in groups], device=x.device)
        self._lengths = torch.tensor([len(indices) for indices in groups], device=x.device)

    def _norm_shape(self, x: Tensor) -> tuple[int, ...]:
        shape = list(super()._norm_shape(x))
        shape[self.dims[-1]] = self._count
        return tuple(shape)

    def members(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The entries that `mask` selects and that belong to a group."""
        grouped = self.along(self._labels < self._count)
        if mask is None:
            return grouped
        check_mask(mask, x)
        return grouped & mask

    def along(self, vector: Tensor) -> Tensor:
        """A vector of one value per group, or per index, along the indexed dim."""
        column: Tensor = vector.reshape(-1, *[1] * (-self.dims[-1] - 1))
        return column

    def entries(self, split: Tensor) -> Tensor:
        """The number of entries of each group, of a shape that broadcasts to the norms."""
        others = torch.Size([split.shape[d] for d in self.dims[:-1]]).numel()
        return others * self.along(self._lengths)

    def sum(self, split: Tensor) -> Tensor:
        """The sum over each group, spread over the entries of the indexed dim."""
        dim, lines = self.dims[-1], self._lines(split, torch.sum)
        shape = list(lines.shape)
        shape[dim] = self._count + 1
        totals = lines.new_zeros(shape).index_add(dim, self._labels, lines)
        return totals.index_select(dim, self._labels)

    def amax(self, split: Tensor) -> Tensor:
        """The largest entry of each group, spread over the entries of the indexed dim."""
        dim, lines = self.dims[-1], self._lines(split, torch.amax)
        shape = list(lines.shape)
        shape[dim] = self._count + 1
        labels = self.along(self._labels).expand(lines.shape)
        start = lines.new_full(shape, -torch.inf)
        return start.scatter_reduce(dim, labels, lines, "amax").index_select(dim, self._labels)

    def length(self, split: Tensor) -> Tensor:
        """The norm of each group whose squares stay in range, spread as in :meth:`sum`."""
        return self.sum(split.square()).sqrt()

    def _lines(self, split: Tensor, reduce: Any) -> Tensor:
        """`split` reduced over the dims that all groups span."""
        lines: Tensor = reduce(split, self.dims[:-1], keepdim=True) if self.dims[:-1] else split
        return lines

    def norm(self, wide: Tensor) -> Tensor:
        """The norm of each group, spread over the entries of the indexed dim."""
        peak = self.amax(wide.detach().abs())
        unit = torch.where((peak > 0) & (peak < torch.inf), peak, 1.0)
        total = self.sum((wide / unit).square())
        zero = total == 0
        return unit * torch.where(zero, 0.0, torch.where(zero, 1.0, total).sqrt())

    def widen_lambd(self, lambd: float | Tensor, wide: Tensor) -> Tensor:
        """λ spread over the entries; 0 for those in no group."""
        dim = self.dims[-1]
        level = widen_like(lambd, wide)
        shape = [1] * max(-dim - level.ndim, 0) + list(level.shape)
        level = level.reshape(shape)
        shape[dim] = self._count
        level = level.expand(shape)
        free = torch.zeros_like(level.narrow(dim, 0, 1))
        return torch.cat([level, free], dim).index_select(dim, self._labels)

    def per_group(self, spread: Tensor) -> Tensor:
        """One value per group, of the shape of the norms."""
        return spread.index_select(self.dims[-1], self._first)

    def sum_to(self, gradient: Tensor, like: Tensor) -> Tensor:
        """Sum a gradient, spread over the entries, to the shape of λ."""
        return sum_to(self.per_group(gradient), like)


def make_groups(x: Tensor, dim: Dims, group_size: int | None, groups: IndexLists | None) -> Groups:
    """The groups of `x`: of `dim`, of contiguous entries, or of lists of indices."""
    if groups is None:
        return Groups(x, dim, group_size)
    return IndexGroups(x, dim, check_index_lists(groups, group_size))


def check_index_lists(
    groups: IndexLists, group_size: int | None = None, *, may_overlap: bool = False
) -> tuple[tuple[int, ...], ...]:
    """`groups` as tuples.

    Raises:
        TypeError: `groups` is not a sequence of sequences of integers.
        ValueError: there is no group, a group is empty, an index is negative or occurs twice, or
            `group_size` is given too. With `may_overlap`, an index may occur once in each group.
    """
    if group_size is not None:
        raise InputError("groups= and group_size= exclude each other")
    try:
        lists = tuple(tuple(as_integer(index, "groups") for index in group) for group in groups)
    except TypeError:
        raise TypeError("groups= must be lists of indices, such as [[0, 1, 2], [3, 4]]") from None
    if not lists or not all(lists):
        raise InputError("groups= needs at least one group, and no group may be empty")
    indices = [index for group in lists for index in group]
    if min(indices) < 0:
        raise InputError(f"groups= contains the negative index {min(indices)}; count from 0")
    if may_overlap and all(len(set(group)) == len(group) for group in lists):
        return lists
    if len(set(indices)) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        raise InputError(
            f"groups= contains the index {twice} twice: overlapping groups have no proximal "
            "operator in closed form; OverlappingGroupLasso finds it by iteration"
        )
    return lists
