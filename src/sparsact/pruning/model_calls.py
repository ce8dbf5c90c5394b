"""Calling a model with its example input, and comparing what it returns."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

TOLERANCE = 1e-5


def call(model: nn.Module, example: Any) -> list[Tensor]:
    """Return the tensors among the outputs of the model."""
    if isinstance(example, Mapping):
        output = model(**example)
    elif isinstance(example, (tuple, list)):
        output = model(*example)
    else:
        output = model(example)
    return tensors_in(output)


def tensors_in(tree: Any) -> list[Tensor]:
    """Return all tensors in nested containers and in the attributes of other objects."""
    found: dict[int, Tensor] = {}
    seen: dict[int, Any] = {}
    todo = list(tree_leaves(tree))
    while todo:
        leaf = todo.pop(0)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        elif id(leaf) not in seen and not isinstance(leaf, (type, nn.Module, ModuleType)):
            seen[id(leaf)] = leaf
            todo += tree_leaves(getattr(leaf, "__dict__", {}))
    return list(found.values())


@torch.no_grad()
def call_without_gradient(model: nn.Module, example: Any) -> list[Tensor]:
    """As `call`, without a graph, and with the same random numbers every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return call(model, example)


def are_equal(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Whether the outputs are equal to 1e-5 of the largest one, or to the dtype's rounding."""
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            return False
        if not (old.is_floating_point() or old.is_complex()):
            if not old.equal(new):
                return False
            continue
        finite = old.isfinite()
        if finite.any():
            tolerance = max(TOLERANCE, 8 * torch.finfo(old.dtype).eps)
            bound = tolerance * max(1.0, float(old[finite].abs().max()))
            if not float((old - new)[finite].abs().max()) <= bound:
                return False
    return True


def count_flops(model: nn.Module, example: Any) -> int:
    """Return the floating-point operations of one forward."""
    with FlopCounterMode(display=False) as counter:
        call_without_gradient(model, example)
    return int(counter.get_total_flops())
