"""Removing zero units from a copy of a model until none is left."""

from typing import Any

from torch import Tensor, nn

from sparsact.pruning.coupled_units import CoupledUnits, find_coupled_units
from sparsact.pruning.input_ranges import measure_input_ranges
from sparsact.pruning.layer_weights import add_to_bias
from sparsact.pruning.model_calls import call_without_gradient, check_equal


class Removal:
    """Removes the zero units of a copy of the model.

    Args:
        model: the copy, in eval mode; it is changed.
        example: the example input.
        stuck: layers known to be coupled with something that cannot be made smaller.

    Attributes:
        removed: layer → number of removed units.
        kept: layer → why some of its zero units were not removed.
    """

    def __init__(self, model: nn.Module, example: Any, stuck: set[str]) -> None:
        self.model, self.example, self.stuck = model, example, stuck
        self.before = call_without_gradient(model, example)
        self.removed: dict[str, int] = {}
        self.kept: dict[str, str] = {}

    def run(self) -> str | None:
        """Remove units until none is left to remove.

        Several rounds are needed: a removal can leave zero units behind.

        Returns:
            None, or the layer after whose removal the forward failed.
        """
        while True:
            has_removed = False
            self.kept = dict.fromkeys(
                self.stuck, "it is coupled with something that cannot be made smaller"
            )
            for coupled in find_coupled_units(self.model, self.example):
                chosen = self._choose(coupled) if coupled.name not in self.stuck else None
                if chosen is None or not chosen.any():
                    continue
                has_removed = True
                coupled.group.prune(chosen.nonzero().flatten().tolist())
                try:
                    after = call_without_gradient(self.model, self.example)
                except (RuntimeError, ValueError):  # a later module has a fixed size
                    return coupled.name
                check_equal(coupled.name, self.before, after)
                for name, count in coupled.count(chosen).items():
                    self.removed[name] = self.removed.get(name, 0) + count
            if not has_removed:
                return None

    def _choose(self, coupled: CoupledUnits) -> Tensor | None:
        """Choose the units to remove, and add their constants to the biases of their readers."""
        zero, unread = coupled.zero(), coupled.unread()
        if not (zero | unread).any():
            return None
        if coupled.obstacle is not None:
            self.kept[coupled.name] = coupled.obstacle
            return None
        readers = [module for module, _, _ in coupled.consumers]
        ranges = measure_input_ranges(self.model, readers, self.example)
        chosen = unread | (zero & coupled.foldable(ranges))
        if (zero & ~chosen).any():
            self.kept[coupled.name] = (
                "the layers that read its zero units do not see the same value everywhere, for "
                "example at the edges of a convolution that pads with zeros, or because something "
                "else is added: make the biases of these units zero too"
            )
        if chosen.all():
            self.kept[coupled.name] = "a layer keeps at least one unit"
            chosen[0] = False
        for module, inputs, unit in coupled.consumers:
            low, high = ranges[module]
            removed_inputs = inputs[(chosen & ~unread)[unit]]
            add_to_bias(module, removed_inputs, (low + high)[removed_inputs] / 2)
        return chosen
