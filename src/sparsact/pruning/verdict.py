"""The verdict on each set of coupled units: removable, or kept with a reason."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sparsact.pruning.operation import Read, Weight
from sparsact.pruning.trace import Trace, layers_that_did_not_run
from sparsact.pruning.units import NO_UNIT, Slot

EDGES = (
    "reads a constant that is not 0 and pads with zeros, so that the edges would differ: make the "
    "biases of these units zero too"
)
MIXED = "its zero units can be removed only together with units that are not zero"
LAST = "a layer keeps at least one unit"


@dataclass
class Verdict:
    """What a trace allows.

    Attributes:
        removable: the roots of the units that may be removed.
        kept: root of a zero unit that may not → the reason.
        constants: weight → for each of its inputs, the constant to be added to the bias, or NaN.
    """

    removable: list[int]
    kept: dict[int, str]
    constants: dict[str, Tensor]


def judge(trace: Trace) -> Verdict:
    """Decide which units may be removed; those without an effect that may not have a reason."""
    size, roots = len(trace.units), _roots(trace)
    absorbed, constant_columns, zero_rows = (torch.ones(size, dtype=torch.bool) for _ in "123")
    is_column, is_row = (torch.zeros(size, dtype=torch.bool) for _ in "12")
    why: dict[int, str] = {}
    constants: dict[str, Tensor] = {}
    for weight in trace.weights.values():
        rows = trace.units.slots[weight.name, weight.out_dim]
        is_row[rows] = True
        zero_rows[rows] = _zero(trace, weight, weight.out_dim)
        if weight.in_dim is None or not weight.reads:
            continue
        columns = trace.units.slots[weight.name, weight.in_dim]
        is_column[columns] = True
        result = _columns(trace, weight)
        absorbed[columns], constant_columns[columns], constants[weight.name] = result
        for label in columns[~result[0]].tolist():
            why.setdefault(int(roots[label]), _why_not(trace, weight, label))
    all_absorbed = _all(absorbed, roots)
    dead = (_any(is_row, roots) & _all(zero_rows | ~is_row, roots)) | (
        _any(is_column, roots) & _all(constant_columns | ~is_column, roots)
    )
    removable, kept = [], {}
    for root in roots.unique().tolist():
        reason = trace.obstacle or trace.units.fixed.get(root)
        if root == NO_UNIT or not (dead[root] or all_absorbed[root]):
            continue
        if not _any(is_row | is_column, roots)[root]:
            continue
        if reason is None and all_absorbed[root] and _any(is_column, roots)[root]:
            removable.append(root)
        elif dead[root]:
            kept[root] = _with_sharing(trace, root, reason or _lost(trace, root, roots, why))
    for root in _mixed(trace, zero_rows & is_row, roots):
        kept.setdefault(root, trace.obstacle or trace.units.fixed.get(root) or MIXED)
    return Verdict(removable, kept, constants)


def _mixed(trace: Trace, zero: Tensor, roots: Tensor) -> list[int]:
    """Roots that couple zero rows of a weight with rows of the same weight that are not zero."""
    mixed: set[int] = set()
    for weight in trace.weights.values():
        rows = trace.units.slots[weight.name, weight.out_dim]
        zeros, others = (set(roots[rows[mask]].tolist()) for mask in (zero[rows], ~zero[rows]))
        mixed |= zeros & others
    return sorted(mixed - {NO_UNIT})


def _roots(trace: Trace) -> Tensor:
    return trace.units.roots(torch.arange(len(trace.units)))


def _columns(trace: Trace, weight: Weight) -> tuple[Tensor, Tensor, Tensor]:
    """For each input: whether it can be left out, whether it is dead, and its constant."""
    assert weight.in_dim is not None
    unread = _zero(trace, weight, weight.in_dim)
    absorbed, known = torch.ones_like(unread), torch.ones_like(unread)
    constants = torch.full(unread.shape, torch.nan, dtype=torch.float64)
    can_fold = reading_module(trace, weight) is not None
    for read in weight.reads:
        part = slice(read.offset, read.offset + len(read.values))
        values = read.values
        known[part] &= ~values.isnan()
        earlier = constants[part]
        same = earlier.isnan() | (earlier == values)
        folds = ~values.isnan() & same & can_fold & (not read.edges)
        absorbed[part] &= same & (values.eq(0) | folds)
        constants[part] = torch.where(values.isnan(), earlier, values)
    return absorbed | unread, known | unread, constants.masked_fill(unread, 0.0)


def _zero(trace: Trace, weight: Weight, dim: int) -> Tensor:
    """For each index of a dim, whether all entries are 0."""
    tensor = trace.model.get_parameter(weight.name).detach()
    return tensor.transpose(0, dim).flatten(1).eq(0).all(1).cpu()


def owners(model: nn.Module, name: str) -> list[str]:
    """The names of all modules that hold a parameter or buffer."""
    tensors: dict[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    tensor = tensors[name]
    return [
        module_name
        for module_name, module in model.named_modules()
        for each in [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if each is tensor
    ]


def reading_module(trace: Trace, weight: Weight) -> Any:
    """The layer whose bias takes up constants: torch's own, called as it is, with its own bias."""
    names = owners(trace.model, weight.name)
    module = trace.model.get_submodule(names[0])
    is_layer = isinstance(module, (nn.Linear, _ConvNd)) and weight.groups == 1
    if not is_layer or len(names) > 1 or getattr(module, "transposed", False):
        return None
    if any(not read.place.startswith(f"{names[0]!r} ") for read in weight.reads):
        return None
    bias = module.bias
    if bias is not None and len(owners(trace.model, f"{names[0]}.bias")) > 1:
        return None
    return module


def _why_not(trace: Trace, weight: Weight, label: int) -> str:
    column = int((trace.units.slots[weight.name, weight.in_dim or 0] == label).nonzero()[0])

    def value(read: Read) -> float:
        inside = 0 <= column - read.offset < len(read.values)
        return float(read.values[column - read.offset]) if inside else 0.0

    for read in weight.reads:
        if torch.tensor(value(read)).isnan():
            return f"{read.place} does not read one constant of it"
        if value(read) != 0 and read.edges:
            return f"{read.place} {EDGES}"
    return f"{weight.reads[0].place} has no bias of its own that could take up its constant"


def _lost(trace: Trace, root: int, roots: Tensor, why: dict[int, str]) -> str:
    """The reason of a unit that is read: where its constant ended, and who reads it."""
    reader = why.get(root, "nothing is known about its readers")
    places = {text for label, text in trace.lost.items() if roots[label] == root}
    if places and "one constant" in reader:
        return f"{reader}: {min(places)} makes a constant that is not 0 depend on the input"
    return reader


def _with_sharing(trace: Trace, root: int, reason: str) -> str:
    for name in producers(trace, [root]):
        if len(owners(trace.model, name)) > 1:
            users = " and ".join(map(repr, owners(trace.model, name)))
            return f"{users} shares its weight with another layer: {reason}"
    return reason


def producers(trace: Trace, chosen: list[int]) -> dict[str, int]:
    """Weight → the number of its outputs among the units of these roots."""
    counts = {}
    for weight in trace.weights.values():
        labels = trace.units.roots(trace.units.slots[weight.name, weight.out_dim])
        count = int(torch.isin(labels, torch.tensor(chosen)).sum())
        if count:
            counts[weight.name] = count
    return counts


def slots_of(trace: Trace, chosen: list[int]) -> dict[Slot, Tensor]:
    """Slot → a mask of the indices that belong to the units of these roots."""
    masks = {
        slot: torch.isin(trace.units.roots(labels), torch.tensor(chosen))
        for slot, labels in trace.units.slots.items()
    }
    return {slot: mask for slot, mask in masks.items() if mask.any()}


def _all(condition: Tensor, roots: Tensor) -> Tensor:
    result = torch.ones(len(roots), dtype=torch.bool)
    result[roots[~condition]] = False
    return result


def _any(condition: Tensor, roots: Tensor) -> Tensor:
    return ~_all(~condition, roots)


def layers_not_followed(trace: Trace) -> dict[str, str]:
    """Layers with zero units that did not run, or whose weight was changed before its use."""
    kept = {}
    idle = layers_that_did_not_run(trace)
    for name, module in trace.model.named_modules():
        if isinstance(module, (nn.Linear, _ConvNd)) and f"{name}.weight" not in trace.weights:
            weight = module.weight.detach()
            by_unit = weight.transpose(0, int(getattr(module, "transposed", False)))
            if by_unit.flatten(1).eq(0).all(1).any():
                kept[name] = (
                    f"{name!r} did not run on the example"
                    if name in idle
                    else f"the forward computes with a changed weight of {name!r}, as a "
                    "parametrization or autocast does"
                )
    return kept
