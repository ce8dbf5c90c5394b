"""Removing units in rounds, until none is left to remove."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sparsact.pruning.model_calls import are_equal, call_without_gradient
from sparsact.pruning.pointwise_rules import COUPLED
from sparsact.pruning.removal import difference, remove
from sparsact.pruning.trace import Trace, trace
from sparsact.pruning.units import Slot
from sparsact.pruning.verdict import (
    LAST,
    Verdict,
    judge,
    layers_not_followed,
    owners,
    producers,
    reading_module,
    slots_of,
)

Family = frozenset[Slot]
"""The slots in which the coupled units of one root lie."""


def without(
    now: Trace, verdict: Verdict, chosen: list[int], example: Any
) -> tuple[nn.Module, str | None]:
    """A copy of the model without some units, and what else changed in its forward, if it did."""
    smaller = copy.deepcopy(now.model)
    remove(Trace(smaller, now.units, now.shadows, now.weights), verdict, chosen)
    try:
        after = trace(smaller, example)
    except Exception as error:  # whatever the model's code raises at another size
        place = getattr(error, "sparsact_place", "the model")
        return smaller, f"{place} has a fixed size ({str(error).partition(chr(10))[0]})"
    return smaller, difference(now, after, chosen)


class Rounds:
    """Removes the units of a copy of the model that have no effect.

    Several rounds are needed: a removal can leave other units unread.

    Args:
        model: the copy, in eval mode; `model` afterwards is the smaller one.
        example: the example input.
        must_stay: parameter → why it must keep its size.

    Attributes:
        removed: layer → number of removed units.
        kept: layer → why some of its zero units were not removed.
    """

    def __init__(self, model: nn.Module, example: Any, must_stay: Mapping[str, str]) -> None:
        self.model, self.example, self.must_stay = model, example, must_stay
        self.before = call_without_gradient(model, example)
        self.removed: dict[str, int] = {}
        self.kept: dict[str, str] = {}
        self.stuck: dict[Family, str] = {}
        self.added: list[str] = []

    def run(self) -> None:
        """Remove units until none is left to remove."""
        while self._round():
            pass
        for name in self.added:
            module: Any = self.model.get_submodule(name)
            if not module.bias.any():
                module.bias = None

    def _add_biases(self, now: Trace, verdict: Verdict) -> bool:
        """Give layers that take up constants a bias of zeros; it is dropped if it stays zero."""
        count = len(self.added)
        for name, constants in verdict.constants.items():
            roots = now.units.roots(now.units.slots[name, now.weights[name].in_dim or 0])
            removed = torch.isin(roots, torch.tensor(verdict.removable, dtype=torch.long))
            module = reading_module(now, now.weights[name])
            if module is not None and module.bias is None and constants[removed].any():
                weight = module.get_parameter("weight")
                width = weight.shape[now.weights[name].out_dim]
                module.bias = nn.Parameter(weight.new_zeros(width))
                self.added.append(name.rpartition(".")[0])
        return len(self.added) > count

    def _round(self) -> bool:
        """Remove all units that can be removed now; return whether there were any."""
        now = trace(self.model, self.example, self.must_stay)
        verdict = judge(now)
        if self._add_biases(now, verdict):
            now = trace(self.model, self.example, self.must_stay)
            verdict = judge(now)
        self.kept = layers_not_followed(now)
        families: dict[Family, list[int]] = {}
        for root in self._leaving_one(now, verdict):
            families.setdefault(frozenset(slots_of(now, [root])), []).append(root)
        for family in families.keys() & self.stuck.keys():
            self._keep(now, families.pop(family), self.stuck[family])
        for root, reason in verdict.kept.items():
            self._keep(now, [root], reason)
        everything = [root for roots in families.values() for root in roots]
        if not everything:
            return False
        if self._try(now, verdict, everything) is None:
            return True
        for family, roots in families.items():
            obstacle = self._try(now, verdict, roots)
            if obstacle is None:
                return True
            self.stuck[family] = f"{COUPLED}: {obstacle}"
        return True  # a last round lists what is stuck

    def _try(self, now: Trace, verdict: Verdict, chosen: list[int]) -> str | None:
        """Remove units; if this does not succeed, return the reason and leave the model."""
        counts = producers(now, chosen)
        smaller, reason = without(now, verdict, chosen, self.example)
        if reason is not None:
            return reason
        if not are_equal(self.before, call_without_gradient(smaller, self.example)):
            return "the outputs of the example input change"
        for weight, count in counts.items():
            for name in owners(now.model, weight):
                self.removed[name] = self.removed.get(name, 0) + count
        self.model = smaller
        return None

    def _keep(self, now: Trace, roots: list[int], reason: str) -> None:
        for weight in producers(now, roots):
            for name in owners(now.model, weight):
                self.kept.setdefault(name, reason)

    def _leaving_one(self, now: Trace, verdict: Verdict) -> list[int]:
        """The removable units, without one of each slot that they would empty."""
        chosen = list(verdict.removable)
        for slot, labels in now.units.slots.items():
            roots = now.units.roots(labels)
            if bool(torch.isin(roots, torch.tensor(chosen)).all()) and len(roots):
                spared = int(roots[0])
                chosen.remove(spared)
                if slot[0] in now.weights:
                    self._keep(now, [spared], LAST)
        return chosen
