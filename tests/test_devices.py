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


NEEDS_FLOAT64 = {
    *("nn.Entmax-bisection", "penalties.OSCAR", "penalties.SLOPE", "penalties.TotalVariation"),
    "penalties.OverlappingGroupLasso",
}
"""Their solvers (of the prox, for penalties) are in float64: they raise on Apple's GPUs."""
LANGUAGE = {"calibration", "inference", "sae_on_a_model", "comparison", "feature_selection"}
"""Not yet looked at without float64."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in LANGUAGE])
def test_a_device_without_float64(name):
    run = lambda: CASES[name](to_second_device)  # noqa: E731
    with SecondDevice(has_float64=False):
        if name not in NEEDS_FLOAT64:
            run()
            return
        with pytest.raises(TypeError, match="no float64"):
            run()
