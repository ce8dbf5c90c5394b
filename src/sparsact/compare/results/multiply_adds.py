"""How many multiply-adds a forward takes, and how many of them have an input that is not zero."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class MultiplyAdds:
    """The multiply-adds of linear layers and convolutions.

    Attributes:
        dense: all of them.
        needed: those whose input is not zero; of a convolution, the share of its inputs that are
            not zero. What skips zero inputs computes these alone.
    """

    dense: float = 0.0
    needed: float = 0.0

    def see(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Add a call of a layer; a forward hook."""
        x = args[0] if args else None
        if not isinstance(x, Tensor) or not isinstance(output, Tensor) or x.numel() == 0:
            return
        assert isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        weight = module.weight
        if isinstance(module, nn.modules.conv._ConvNd) and module.transposed:
            count = x.numel() * weight.numel() / module.in_channels
        else:  # the weight has a row for each output channel
            count = output.numel() * weight.numel() / len(weight)
        self.dense += count
        self.needed += count * int(torch.count_nonzero(x)) / x.numel()


def count_multiply_adds(model: nn.Module, forward: Callable[[], object]) -> MultiplyAdds:
    """Count those of one forward, without gradients.

    Args:
        model: its layers are counted.
        forward: runs the model.
    """
    counts = MultiplyAdds()
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    hooks = [m.register_forward_hook(counts.see) for m in model.modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return counts
