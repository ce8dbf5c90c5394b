"""The weights of ``nn.Linear`` and convolutions by output and by input unit."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


def is_layer(module: nn.Module) -> bool:
    """Whether the units of this module can be removed."""
    return isinstance(module, (nn.Linear, _ConvNd))


def outgoing(module: Any) -> Tensor:
    """Return the weights with the outputs as their first dim."""
    weight: Tensor = module.weight.detach()
    return weight.transpose(0, 1) if getattr(module, "transposed", False) else weight


def incoming(module: Any) -> Tensor:
    """Return the weights with the inputs as their first dim."""
    return outgoing(module).transpose(0, 1)


def any_nonzero(weights: Tensor) -> Tensor:
    """For each entry of the first dim, whether any weight is not zero."""
    return weights.flatten(1).ne(0).any(1)


def unit_dim(module: nn.Module) -> int:
    """Return the dim of the input that holds the units."""
    return -1 - len(module.kernel_size) if isinstance(module, _ConvNd) else -1


def changes_at_edges(module: nn.Module) -> bool:
    """Whether a constant input gives other outputs at the edges than inside."""
    if not isinstance(module, _ConvNd):
        return False
    if module.transposed:
        return True
    padded = module.padding == "same" or any(p != 0 for p in module.padding if p != "valid")
    return padded and module.padding_mode == "zeros"


@torch.no_grad()
def add_to_bias(module: Any, inputs: Tensor, constant: Tensor) -> None:
    """Add to the bias what these inputs contribute if each is a constant."""
    weight = incoming(module)[inputs]
    if not constant.any():
        return
    sums = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
    shift = constant.to(sums) @ sums
    if module.bias is None:
        module.bias = nn.Parameter(shift)
    else:
        module.bias += shift
