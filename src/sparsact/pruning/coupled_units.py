"""Units of several layers that can only be removed together, found by Torch-Pruning."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from sparsact._common.extras import require
from sparsact.hooks import shared_parameters
from sparsact.pruning.input_ranges import Ranges
from sparsact.pruning.layer_weights import (
    any_nonzero,
    changes_at_edges,
    incoming,
    is_layer,
    outgoing,
)
from sparsact.pruning.model_calls import call

CONSTANT = 1e-6  # how far apart the entries of one constant may be, relative to their size
_BY_UNIT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)
_Part = tuple[nn.Module, Tensor, Tensor]


@dataclass
class CoupledUnits:
    """Units of several layers that can only be removed together.

    Attributes:
        group: Torch-Pruning's group of all these units.
        names: the names of the producers; the group starts from the first one.
        producers: (layer, its outputs, the unit of each output).
        consumers: (layer, its inputs, the unit of each input).
        obstacle: the reason why no unit may be removed.
    """

    group: Any
    names: list[str] = field(default_factory=list)
    producers: list[_Part] = field(default_factory=list)
    consumers: list[_Part] = field(default_factory=list)
    obstacle: str | None = None

    @property
    def name(self) -> str:
        """The name of the layer from which the group starts."""
        return self.names[0]

    def zero(self) -> Tensor:
        """For each unit, whether all its incoming weights are zero."""
        return self._all(True, self.producers, lambda module: ~any_nonzero(outgoing(module)))

    def unread(self) -> Tensor:
        """For each unit, whether all weights that read it are zero."""
        has_consumers = bool(self.consumers)
        return self._all(
            has_consumers, self.consumers, lambda module: ~any_nonzero(incoming(module))
        )

    def foldable(self, ranges: Ranges) -> Tensor:
        """For each unit, whether it is a constant that its readers' biases can replace."""

        def is_foldable(module: nn.Module) -> Tensor:
            low, high = ranges[module]
            constant = (high - low) <= CONSTANT * high.abs().clamp(min=1)
            return constant & high.eq(0) if changes_at_edges(module) else constant

        return self._all(True, self.consumers, is_foldable)

    def count(self, chosen: Tensor) -> dict[str, int]:
        """For each producer, the number of outputs that belong to the chosen units."""
        return {
            name: int(chosen[unit].sum())
            for name, (_, _, unit) in zip(self.names, self.producers, strict=True)
        }

    def _all(
        self, default: bool, parts: list[_Part], condition: Callable[[nn.Module], Tensor]
    ) -> Tensor:
        """For each unit, whether the condition holds for all its entries in all parts."""
        result = torch.full((len(self.group[0].idxs),), default)
        for module, indices, unit in parts:
            result[unit[~condition(module)[indices].cpu()]] = False
        return result


def find_coupled_units(model: nn.Module, example: Any) -> Iterator[CoupledUnits]:
    """Yield the coupled units of every layer; the model may be changed between two of them."""
    tp = require("torch_pruning", "prune")
    graph = tp.DependencyGraph()
    # outputs times one: Torch-Pruning marks an output only if no layer has made it
    with torch.enable_grad():
        graph.build_dependency(
            model,
            example,
            forward_fn=lambda model, example: [
                leaf * 1 for leaf in call(model, example) if leaf.requires_grad
            ],
            verbose=False,
        )
    names = {module: name for name, module in model.named_modules()}
    shared = _with_shared_parameters(model)
    for group in graph.get_all_groups(root_module_types=[nn.Linear, _ConvNd]):
        coupled = CoupledUnits(group, [names[group[0].dep.target.module]])
        for item in group:
            _add_member(coupled, graph, item, shared, tp.ops.OPTYPE)
        coupled.names = [names[module] for module, _, _ in coupled.producers] or coupled.names
        yield coupled


def _add_member(
    coupled: CoupledUnits, graph: Any, item: Any, shared: set[nn.Module], kinds: Any
) -> None:
    """Add one member of a group as producer, consumer or obstacle."""
    module, kind = item.dep.target.module, item.dep.target.type
    if kind == kinds.OUTPUT:
        coupled.obstacle = "its units are outputs of the model"
    elif kind == kinds.PARAMETER:
        coupled.obstacle = "a parameter outside torch's own layers depends on its units"
    elif module in shared:
        coupled.obstacle = "a layer coupled with it shares its weights with another layer"
    elif is_parametrized(module):
        coupled.obstacle = f"a weight of {type(module).__name__} is parametrized"
    elif is_layer(module):
        if getattr(module, "groups", 1) > 1:
            coupled.obstacle = "a grouped convolution is coupled with it"
            return
        is_producer = graph.is_out_channel_pruning_fn(item.dep.handler)
        parts = coupled.producers if is_producer else coupled.consumers
        parts.append((module, torch.tensor(item.idxs), torch.tensor(item.root_idxs)))
    elif not isinstance(module, _BY_UNIT) and next(module.parameters(), None) is not None:
        coupled.obstacle = f"{type(module).__name__} combines its units"


def _with_shared_parameters(model: nn.Module) -> set[nn.Module]:
    shared = shared_parameters(model)
    return {
        module
        for module in model.modules()
        if not shared.isdisjoint(map(id, module.parameters(recurse=False)))
    }
