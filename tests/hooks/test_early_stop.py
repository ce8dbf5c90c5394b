import pytest
import torch
from torch import nn

from sparsact.hooks import Taps, stop_after, stop_before


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 6))


def called_layers(model, block):
    """The layers that a forward within `block` computes."""
    names = []
    with Taps(dict(model.named_children()), lambda name, x: names.append(name)), block:
        model(torch.ones(2, 3))
    return names


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_a_forward_stops_before_or_after_a_module(model):
    assert called_layers(model, stop_before(model[1])) == ["0"]
    assert called_layers(model, stop_after(model[1])) == ["0", "1"]
    assert called_layers(model, stop_before(None)) == ["0", "1", "2"]
    assert hooks_of(model) == 0


def test_a_forward_that_never_reaches_the_module_runs_to_its_end(model):
    assert called_layers(model, stop_before(nn.Linear(3, 4))) == ["0", "1", "2"]


def test_errors_pass_and_leave_no_hook(model):
    with pytest.raises(RuntimeError, match="shapes"), stop_before(model[1]):
        model(torch.ones(2, 7))
    assert hooks_of(model) == 0


def test_the_inner_of_two_blocks_lets_the_stop_of_the_outer_pass(model):
    reached_the_end = False
    with stop_before(model[1]):
        with stop_before(model[2]):
            model(torch.ones(2, 3))
        reached_the_end = True
    assert not reached_the_end
    assert hooks_of(model) == 0
