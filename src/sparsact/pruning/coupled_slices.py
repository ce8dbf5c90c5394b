"""The slices of parameters that belong to each unit that could be removed."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.pruning.rounds import without
from sparsact.pruning.shared_storage import parameters_that_share
from sparsact.pruning.trace import Trace, trace
from sparsact.pruning.units import NO_UNIT, Slot
from sparsact.pruning.verdict import Verdict, slots_of

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Slices = dict[Slot, Tensor]
"""(parameter, dim) → for each unit, the indices along this dim, of shape (units, indices)."""


def coupled_slices(model: nn.Module, example: Any, readers: bool) -> tuple[list[Slices], list[str]]:
    """Find the slices of all units that can be removed; units alike in shape come together.

    Returns:
        the slices, and the reasons why other units cannot be removed.
    """
    must_stay = parameters_that_share(model)
    now = trace(copy.deepcopy(model).eval(), example, must_stay)
    if now.obstacle is not None:
        return [], [now.obstacle]
    roots = now.units.roots(torch.arange(len(now.units)))
    families: dict[tuple[tuple[Slot, int], ...], list[int]] = {}
    for root in roots.unique().tolist():
        masks = slots_of(now, [root])
        if root != NO_UNIT and root not in now.units.fixed and _is_read(now, masks):
            key = tuple((slot, int(mask.sum())) for slot, mask in masks.items())
            families.setdefault(key, []).append(root)
    reasons = sorted(set(now.units.fixed.values()))
    found = []
    for members in families.values():
        _, reason = without(now, Verdict([], {}, {}), members[:1], example)
        if reason is not None:
            reasons.append(reason)
            continue
        chosen = [slot for slot in slots_of(now, members[:1]) if _counts(now, slot, readers)]
        found.append({slot: _indices(now, slot, members) for slot in chosen})
    return found, reasons


def _is_read(now: Trace, masks: dict[Slot, Tensor]) -> bool:
    weights = [now.weights[name] for name, _ in masks if name in now.weights]
    return any((weight.name, weight.out_dim) in masks for weight in weights) and any(
        (weight.name, weight.in_dim) in masks for weight in weights
    )


def _counts(now: Trace, slot: Slot, readers: bool) -> bool:
    """Whether a slot is part of a group: rows, biases, γ and β of norms, and columns."""
    name, dim = slot
    if name in now.weights:
        return readers or dim == now.weights[name].out_dim
    owner, _, key = name.rpartition(".")
    is_norm = isinstance(now.model.get_submodule(owner), _NORMS) and key in {"weight", "bias"}
    return is_norm or (key == "bias" and f"{owner}.weight".lstrip(".") in now.weights)


def _indices(now: Trace, slot: Slot, members: list[int]) -> Tensor:
    labels = now.units.roots(now.units.slots[slot])
    return torch.stack([(labels == root).nonzero().flatten() for root in members])
