"""Calling a model with its example input, and comparing what it returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

TOLERANCE = 1e-5


def call(model: nn.Module, example: Any) -> list[Tensor]:
    """Return the floating-point tensors among the outputs of the model."""
    if isinstance(example, Mapping):
        output = model(**example)
    elif isinstance(example, (tuple, list)):
        output = model(*example)
    else:
        output = model(example)
    leaves = tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


@torch.no_grad()
def call_without_gradient(model: nn.Module, example: Any) -> list[Tensor]:
    """As `call`, without a graph."""
    return call(model, example)


def check_equal(name: str, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Raise if removing units of the layer `name` changed the outputs."""
    for old, new in zip(before, after, strict=True):
        same_shape = old.shape == new.shape
        bound = TOLERANCE * max(1.0, float(old.abs().max())) if old.numel() else 0.0
        if not same_shape or (old.numel() and not float((old - new).abs().max()) <= bound):
            raise RuntimeError(
                f"removing the zero units of {name!r} changes the outputs by more than {TOLERANCE}:"
                " either the model mixes units outside its layers, or its half precision is too "
                "coarse for this check. The model is unchanged."
            )


def count_flops(model: nn.Module, example: Any) -> int:
    """Return the floating-point operations of one forward."""
    with FlopCounterMode(display=False) as counter:
        call_without_gradient(model, example)
    return int(counter.get_total_flops())
