"""Every public entry point computes on another device what it computes on the CPU."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

import device_model_cases  # noqa: F401 its rows
from device_part_cases import CASES
from second_device import SecondDevice, to_second_device


def tensors(result):
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


LOOSE = ("coordinate_descent", "dictionary_learning")
"""The CPU has another kernel for these, and ends after another number of steps."""


@pytest.mark.filterwarnings("ignore:.*runs layer by layer")
@pytest.mark.parametrize("name", CASES)
def test_another_device(name):
    tolerance = {"rtol": 1e-3, "atol": 3e-4} if name in LOOSE else {"rtol": 1e-5, "atol": 1e-5}
    torch.manual_seed(0)
    expected = tensors(CASES[name](lambda value: value))
    torch.manual_seed(0)
    with SecondDevice():
        results = tensors(CASES[name](to_second_device))
        assert len(results) == len(expected) > 0
        for result, value in zip(results, expected, strict=True):
            torch.testing.assert_close(result.detach().cpu(), value.detach(), **tolerance)
