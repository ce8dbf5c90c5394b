"""`coupled_groups`: all weights of a unit as one group, so that penalties remove whole units."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.penalties.base_penalty import Penalty
from sparsact.pruning.coupled_slices import Slices, coupled_slices

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class CoupledGroups:
    """The groups that :func:`coupled_groups` finds; a key in the spec of a penalty.

    Attributes:
        slices: for units alike in shape, the indices along one dim of each of their parameters.
    """

    slices: tuple[Slices, ...]

    def __len__(self) -> int:
        return sum(len(next(iter(each.values()))) for each in self.slices)

    def __repr__(self) -> str:
        return f"CoupledGroups({len(self)} units)"

    @property
    def names(self) -> list[str]:
        """The names of all parameters that have entries in a group."""
        return list(dict.fromkeys(name for each in self.slices for name, _ in each))

    def matrices(self, tensors: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Yield matrices with one group a row, from parameters or tensors of their shapes."""
        for each in self.slices:
            yield _rows(each, tensors)

    def value(self, model: nn.Module, penalty: Penalty) -> Tensor:
        """The penalty on all groups: a scalar."""
        parameters = {name: model.get_parameter(name) for name in self.names}
        return torch.stack([penalty(rows) for rows in self.matrices(parameters)]).sum()

    @torch.no_grad()
    def shrink(
        self,
        parameters: Mapping[str, nn.Parameter],
        penalty: Penalty,
        step_size: Callable[[str], float | Tensor],
    ) -> None:
        """Apply the prox of the penalty to the groups, one set of like units after the other."""
        steps = {name: step_size(name) for name, p in parameters.items() if p.grad is not None}
        by_entry = any(isinstance(step, Tensor) and step.ndim for step in steps.values())
        for each in self.slices:
            if not all(name in steps for name, _ in each):
                continue
            if by_entry:
                sizes = {name: parameters[name].new_ones(()) * steps[name] for name, _ in each}
                step: Any = _rows(
                    each, {name: sizes[name].expand_as(parameters[name]) for name in sizes}
                )
            else:
                step = steps[next(iter(each))[0]]
            _scale(each, parameters, penalty, step)


Spec = (
    Mapping[str, Penalty] | Mapping[CoupledGroups, Penalty] | Mapping[str | CoupledGroups, Penalty]
)
"""Glob on parameter names, or coupled groups → penalty."""


def coupled_groups(model: nn.Module, example_input: Any, *, readers: bool = True) -> CoupledGroups:
    """Find all weights of each unit that :func:`sparsact.prune_zero_units` could remove.

    One group is one unit: its rows in all layers that write it, their biases, γ and β of its
    batch norms, and its columns in all layers that read it. In a residual network, a channel of the
    stream is one group over all blocks. Use the result as a key in the spec of
    :class:`WeightPenalty` or :class:`sparsact.optim.Proximal`, with a penalty whose ``dim`` is -1:
    it sees matrices with one group a row.

    A weight between two layers belongs to two groups: to the row of one unit and to the column of
    another. The value counts it in both. The prox of such a sum has no closed form: `Proximal`
    shrinks the sets of like units one after the other, and a weight by both of its groups. A group
    that reaches zero still stays zero, all at once. With ``readers=False`` the groups are disjoint,
    and the prox is exact.

    Args:
        model: the model, at its present size. It is not changed.
        example_input: the input of a forward, as in :func:`sparsact.prune_zero_units`.
        readers: whether the columns of the layers that read a unit are part of its group.

    Returns:
        the groups.

    Raises:
        ValueError: no unit of the model can be removed; the message gives the reasons.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> groups = sa.penalties.coupled_groups(model, torch.randn(1, 4))
        >>> groups
        CoupledGroups(8 units)
        >>> penalty = sa.WeightPenalty(model, {groups: sa.GroupLasso(1e-3)})
    """
    slices, reasons = coupled_slices(model, example_input, readers)
    if not slices:
        raise InputError(f"no unit of the model can be removed: {'; '.join(reasons[:3])}")
    return CoupledGroups(tuple(slices))


def split_spec(spec: Mapping[Any, T]) -> tuple[dict[CoupledGroups, T], dict[str, T]]:
    """Split a spec into its coupled groups and its patterns."""
    if not isinstance(spec, Mapping):
        return {}, spec
    groups = {key: value for key, value in spec.items() if isinstance(key, CoupledGroups)}
    for penalty in groups.values():
        if getattr(penalty, "dim", -1) != -1 or getattr(penalty, "group_size", None) is not None:
            raise InputError(f"coupled groups set the groups: leave out dim= in {penalty}")
    return groups, {key: value for key, value in spec.items() if key not in groups}


def _rows(slices: Slices, tensors: Mapping[str, Tensor]) -> Tensor:
    parts = [
        tensors[name].movedim(dim, 0)[indices.to(tensors[name].device)].flatten(1)
        for (name, dim), indices in slices.items()
    ]
    return torch.cat(parts, 1)


def _scale(
    slices: Slices, parameters: Mapping[str, nn.Parameter], penalty: Penalty, step: Any
) -> None:
    """Multiply each entry by what the prox leaves of it in its group."""
    rows = _rows(slices, parameters)
    left = torch.where(rows == 0, 0.0, penalty.prox(rows, step) / rows)
    start = 0
    for (name, dim), indices in slices.items():
        by_unit = parameters[name].movedim(dim, 0)
        indices = indices.to(by_unit.device)
        old = by_unit[indices]
        size = old[0].numel()
        by_unit[indices] = old * left[:, start : start + size].reshape(old.shape)
        start += size
