"""Making parameters smaller, and proving by a second trace that nothing else moved."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sparsact.pruning.trace import Trace
from sparsact.pruning.units import NO_UNIT
from sparsact.pruning.verdict import Verdict, owners, reading_module, slots_of

_SIZES = {
    nn.Linear: ("out_features", "in_features"),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
}
_ONE_SIZE = ("num_features", "num_parameters")


@torch.no_grad()
def remove(trace: Trace, verdict: Verdict, chosen: list[int]) -> None:
    """Remove the units of these roots from the model of the trace, which changes."""
    masks = slots_of(trace, chosen)
    for name, constants in verdict.constants.items():
        weight = trace.weights[name]
        mask = masks.get((name, weight.in_dim or 0))
        if mask is not None:
            _fold(trace, name, weight.in_dim or 0, constants.nan_to_num() * mask)
    for name in dict.fromkeys(name for name, _ in masks):
        kept = {dim: ~mask for (slot, dim), mask in masks.items() if slot == name}
        _shrink(trace, name, kept)


def _fold(trace: Trace, name: str, in_dim: int, constants: Tensor) -> None:
    module = reading_module(trace, trace.weights[name])
    if module is None or not constants.any():
        return
    weight = module.get_parameter("weight").detach()
    by_input = weight.transpose(0, in_dim).flatten(2) if weight.ndim > 2 else weight.T
    sums = by_input.double().sum(2) if by_input.ndim > 2 else by_input.double()
    shift = (constants.to(weight.device) @ sums).to(weight)
    module.get_parameter("bias").add_(shift)


def _shrink(trace: Trace, name: str, kept: dict[int, Tensor]) -> None:
    model = trace.model
    modules = [model.get_submodule(owner) for owner in owners(model, name)]
    key = name.rpartition(".")[2]
    old = getattr(modules[0], key)
    new = old.detach()
    for dim, mask in kept.items():
        new = new.index_select(dim, mask.nonzero().flatten().to(new.device))
    new = new.contiguous()
    new = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    for module in modules:
        found = next(
            k
            for k, each in [
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ]
            if each is old
        )
        setattr(module, found, new)
        if found == "weight":
            _set_sizes(module, new, old)
        for size in _ONE_SIZE:
            if new.ndim == 1 and vars(module).get(size) == len(old):
                setattr(module, size, len(new))


def _set_sizes(module: nn.Module, new: Tensor, old: Tensor) -> None:
    if isinstance(module, _ConvNd):
        if module.groups > 1:
            module.groups = new.shape[0] * module.groups // old.shape[0]
        sizes = (new.shape[0], new.shape[1] * module.groups)
        module.out_channels, module.in_channels = sizes[::-1] if module.transposed else sizes
    if {"nx", "nf"} <= vars(module).keys():  # the linear layer of GPT-2, weight (inputs, outputs)
        vars(module).update(nx=new.shape[0], nf=new.shape[1])
    for kind, names in _SIZES.items():
        if isinstance(module, kind):
            for size, count in zip(names, new.shape, strict=True):
                setattr(module, size, count)


def difference(before: Trace, after: Trace, chosen: list[int]) -> str | None:
    """Where the forward of the smaller model does not do the same with the units that stay.

    Both forwards must run the same operations with the same numbers, and every entry must belong
    to the unit that it belonged to.
    """
    old_label = _old_labels(before, after, chosen)
    removed = torch.tensor(chosen)
    # a copy changes the order in memory only, and depends on the sizes
    old_steps, new_steps = (
        [step for step in each.steps if step.name != "clone"] for each in (before, after)
    )
    for old, new in zip(old_steps, new_steps, strict=False):
        if (old.name, old.place) != (new.name, new.place) or old.numbers != new.numbers:
            return f"{new.name} in {new.place} depends on the number of its units"
        expected = before.units.roots(old.labels)
        expected = expected[~torch.isin(expected, removed)]
        found = old_label[new.labels].flatten()
        if old.name.startswith(("new_", "empty", "copy_", "zeros", "ones", "full")):
            expected, found = expected[expected != NO_UNIT], found[found != NO_UNIT]
        if not torch.equal(expected, found):
            return f"{new.name} in {new.place} has units of a fixed number or order"
    if len(old_steps) != len(new_steps):
        return "the forward runs other operations"
    return None


def _old_labels(before: Trace, after: Trace, chosen: list[int]) -> Tensor:
    """For each label of the second trace, the root that it had in the first."""
    labels = torch.full((len(after.units),), NO_UNIT)
    removed = torch.tensor(chosen)
    for slot, new in after.units.slots.items():
        if slot in before.units.slots:
            old = before.units.roots(before.units.slots[slot])
            old = old[~torch.isin(old, removed)]
            if len(old) == len(new):
                labels[new] = old
    return labels
