"""The range of every input unit of a layer, from a forward of the example input."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sparsact.hooks import Taps
from sparsact.pruning.layer_weights import unit_dim
from sparsact.pruning.model_calls import call_without_gradient

Ranges = dict[nn.Module, tuple[Tensor, Tensor]]
"""Layer → the least and the largest value of each of its inputs."""


def measure_input_ranges(model: nn.Module, layers: Iterable[nn.Module], example: Any) -> Ranges:
    """Return the least and the largest value of every input of each layer."""
    chosen = set(layers)
    by_name = {name: module for name, module in model.named_modules() if module in chosen}
    ranges: Ranges = {}

    def update(name: str, x: Tensor) -> None:
        layer = by_name[name]
        low, high = x.movedim(unit_dim(layer), 0).flatten(1).aminmax(dim=1)
        if layer in ranges:
            low = torch.minimum(low, ranges[layer][0])
            high = torch.maximum(high, ranges[layer][1])
        ranges[layer] = low, high

    taps = Taps(by_name, update, "input")
    try:
        call_without_gradient(model, example)
    finally:
        taps.remove()
    return {layer: (low.cpu(), high.cpu()) for layer, (low, high) in ranges.items()}
