"""How a layer reads units: its columns go with its inputs, and constants pass through it."""

from torch import Tensor

from sparsact.pruning.operation import Operation, Read, Weight, nan_where_not
from sparsact.pruning.pointwise_rules import COUPLED
from sparsact.pruning.units import varies


def couple(operation: Operation, labels: Tensor, columns: Tensor) -> None:
    """Couple the inputs, (positions, columns), with the columns of a weight."""
    if labels.shape[0] > 1 and not varies(labels, 0):
        labels = labels[:1]
    operation.units.unite(
        columns.expand(labels.shape), labels, f"{COUPLED} (the input of {operation.place})"
    )


def note(
    operation: Operation, name: str, out_dim: int, in_dim: int | None, read: Read, groups: int = 1
) -> None:
    """Note that a layer reads its input by this weight."""
    weights: dict[str, Weight] = operation.trace.weights
    weight = weights.setdefault(name, Weight(name, out_dim, in_dim, groups))
    if (weight.out_dim, weight.in_dim, weight.groups) != (out_dim, in_dim, groups):
        for (slot, _), labels in list(operation.units.slots.items()):
            if slot == name:
                operation.fix(labels, f"uses {name} in another way than another layer")
    weight.reads.append(read)


def affine(weight: Tensor, used: Tensor, constants: Tensor) -> Tensor:
    """``weight @ constants`` where each constant that is used is known, otherwise NaN."""
    known = ~(used & constants.isnan()).any(1)
    return nan_where_not(known, weight @ constants.nan_to_num())
