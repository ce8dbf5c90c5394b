"""Memory for backward: an activation that saves its output needs no further memory."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparsact as sa

X = torch.randn(32, 64)


def saved_bytes(model: nn.Module) -> int:
    """Bytes of distinct memory that a forward pass keeps, parameters and the input left out."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    known.add(X.untyped_storage().data_ptr())
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(X)
    return sum(sizes.values())


def mlp(activation: Any) -> nn.Module:
    layers = [nn.Linear(64, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 8)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    "activation",
    [
        lambda: sa.nn.Softshrink(0.1),
        lambda: sa.nn.Softshrink(0.1, learnable=True),
        lambda: sa.nn.Hardshrink(0.1),
        lambda: sa.nn.Hardshrink(0.1, num_parameters=64, channel_dim=-1),
        lambda: sa.nn.JumpReLU(0.1),
        lambda: sa.nn.Firmshrink(0.1),
        lambda: sa.nn.SCAD(0.1),
        lambda: sa.nn.Garrote(0.1),
        lambda: sa.nn.Garrote(0.1, learnable=True),
        lambda: sa.nn.Halfshrink(0.1),
        lambda: sa.nn.GroupSoftshrink(0.1, group_size=4),
        lambda: sa.nn.SparseGroupSoftshrink(0.1, group_lambd=0.1, group_size=4),
    ],
    ids=lambda build: repr(build()),
)
def test_an_mlp_keeps_half_of_what_torchs_softshrink_keeps(activation):
    one = 32 * 64 * 4
    theirs, ours = saved_bytes(mlp(lambda: nn.Softshrink(0.1))), saved_bytes(mlp(activation))
    assert theirs == 4 * one  # input and output of each activation
    assert ours <= 2 * one + 2 * 64 * 4  # the outputs, which the next layer keeps anyway, and |λ|


def test_changing_the_output_in_place_raises_at_backward():
    x = torch.randn(4, requires_grad=True)
    for module in (sa.nn.Garrote(0.1), sa.nn.GroupSoftshrink(0.1), nn.ReLU()):
        result = module(x * 1)
        result += 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            result.sum().backward()
