"""One operation of a forward: its arguments by name, its outputs and their shadows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from sparsact.pruning.shadows import address
from sparsact.pruning.units import NO_UNIT


@dataclass
class Read:
    """One use of a weight: the constants it was given, whether borders differ, and where."""

    values: Tensor
    edges: bool
    place: str
    offset: int = 0


@dataclass
class Weight:
    """A weight that reads and writes units.

    Attributes:
        name: the parameter.
        out_dim: the dim of its outputs.
        in_dim: the dim of its inputs; None in a grouped convolution, whose inputs go with its
            outputs.
        groups: the number of groups of a convolution.
        reads: its uses.
    """

    name: str
    out_dim: int
    in_dim: int | None
    groups: int = 1
    reads: list[Read] = field(default_factory=list)


class Operation:
    """One call of a torch operator, with the shadows of its inputs.

    Attributes:
        func: the operator; None for a call of a threshold module.
        name: its name without overload.
        place: the module that calls it.
        arguments: argument name → value.
        tensors: all tensors among the arguments.
        outputs: all tensors among the results.
        changes: whether it changes an argument in place.
    """

    def __init__(self, trace: Any, func: Any, args: Any, kwargs: Any, place: str) -> None:
        self.trace, self.units, self.shadows = trace, trace.units, trace.shadows
        self.func, self.args, self.kwargs, self.place = func, args, kwargs, place
        self.name, self.changes, names = "threshold", False, ["self"]
        tags = set()
        if func is not None:
            self.name, tags = func.__name__.partition(".")[0], set(func.tags)
            self.changes = func._schema.is_mutable
            names = [argument.name for argument in func._schema.arguments]
        self.arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        leaves = tree_leaves((args, kwargs))
        self.tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        self.outputs: list[Tensor] = []
        self.shares_storage = False
        numbers = [leaf for leaf in leaves if isinstance(leaf, (float, int))]
        if self.name == "lift_fresh":  # a tensor made from numbers in Python
            numbers = [float(abs(n)) for n in self.tensors[0].flatten()[:1000].tolist()]
        whole = torch.Tag.pointwise in tags or self.name in {"full", "scalar_tensor", "fill_"}
        self.numbers = tuple(float(n) for n in numbers if whole or isinstance(n, float))
        known = [t for t in self.tensors if self.shadows.known(t)]
        self.constant_labels: set[int] = set()
        for tensor in known:
            constants = ~self.shadows.values(tensor).isnan()
            if constants.any():
                self.constant_labels |= set(
                    self.shadows.labels(tensor)[constants].unique().tolist()
                )
        self.constant_labels.discard(NO_UNIT)
        self.had_constants = bool(self.constant_labels)

    @classmethod
    def prepare(
        cls, trace: Any, func: Any, args: Any, kwargs: Any, place: str
    ) -> "Operation | None":
        """Return the operation, or None for calls that are no operators."""
        return cls(trace, func, args, kwargs, place) if hasattr(func, "_schema") else None

    @property
    def text(self) -> str:
        """The operation and its place, for a reason."""
        return f"{self.name} in {self.place}"

    def finish(self, out: Any) -> None:
        """Take the results."""
        self.outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        inputs = {address(tensor) for tensor in self.tensors} - {0}
        self.shares_storage = bool(self.outputs) and all(
            address(tensor) in inputs for tensor in self.outputs
        )

    def get(self, name: str, default: Any = None) -> Any:
        """The argument of this name."""
        return self.arguments.get(name, default)

    def labels(self, tensor: Tensor) -> Tensor:
        """The unit of each entry."""
        labels: Tensor = self.shadows.labels(tensor)
        return labels

    def values(self, tensor: Tensor) -> Tensor:
        """The constant of each entry, or NaN."""
        values: Tensor = self.shadows.values(tensor)
        return values

    def write(
        self, labels: Tensor | None = None, values: Tensor | None = None, output: int = 0
    ) -> None:
        """Set the shadow of an output."""
        if not self.outputs:
            return
        out = self.outputs[output]
        if self.changes and values is not None and self.shadows.is_part(out):
            values = nan_where_not(self.values(out).eq(values), values)  # the rest stays as it was
        self.shadows.set(out, labels, values)

    def on(self, shadow: str, func: Any = None, **changed: Any) -> Tensor:
        """Run the operator on shadows (``"labels"`` or ``"values"``) instead of tensors."""
        of = self.labels if shadow == "labels" else self.values

        def replace(leaf: Any) -> Any:
            return of(leaf).clone() if isinstance(leaf, Tensor) else leaf

        kwargs = {k: v for k, v in self.kwargs.items() if k not in {"dtype", "device"}}
        out: Tensor = (func or self.func)(
            *tree_map(replace, self.args), **tree_map(replace, {**kwargs, **changed})
        )
        return out

    def pass_on_dependence(self) -> None:
        """What is computed from an input depends on it."""
        if any(map(self.shadows.depends_on_input, self.tensors)):
            for out in self.outputs:
                self.shadows.mark_input(out)

    def fix(self, labels: Tensor, why: str) -> None:
        """Keep these units, because of this operation."""
        self.units.fix(labels, f"{self.text} {why}")

    def dims(self, name: str, ndim: int) -> list[int]:
        """The dims in an argument, as non-negative numbers; None means all."""
        dims = self.get(name)
        if dims is None or (isinstance(dims, Sequence) and not dims):
            return list(range(ndim))
        dims = [dims] if isinstance(dims, int) else list(dims)
        return [dim % ndim if ndim else 0 for dim in dims][: max(ndim, 0)]


def nan_where_not(known: Tensor, values: Tensor) -> Tensor:
    """`values` where `known`, and NaN elsewhere."""
    return torch.where(known, values.to(torch.float64), torch.nan)


def zero_where(zero: Tensor) -> Tensor:
    """0 where `zero`, and NaN elsewhere."""
    return torch.zeros(zero.shape, dtype=torch.float64).masked_fill(~zero, torch.nan)
