"""The gate that a ReLU closes: exact zeros, its two gradients, and its contract as a gate."""

import copy

import pytest
import torch
from torch import nn

import sparsact as sa


def gate_at(location, **options):
    gate = sa.nn.ReluGate(len(location), **options)
    with torch.no_grad():
        gate.location.copy_(torch.tensor(location))
    return gate


def test_gates_are_exact_in_training_and_evaluation():
    gate, x = gate_at([-1.0, 0.0, 0.5, 2.0]), torch.randn(3, 4)
    expected = x * torch.tensor([0.0, 0.0, 0.5, 2.0])
    torch.testing.assert_close(gate(x), expected)
    torch.testing.assert_close(gate.eval()(x), expected)
    straight = gate_at([-1.0, 0.0, 0.5, 2.0], straight_through=True)
    assert (straight(x) != 0).equal(gate(x) != 0)
    twin = copy.deepcopy(straight)
    assert twin(x).equal(straight(x))
    assert "straight_through=True" in repr(twin)


@pytest.mark.parametrize(("straight_through", "closed"), [(False, 0.0), (True, 1.0)])
def test_gradients(straight_through, closed):
    gate = gate_at([-1.0, 0.0, 0.5], straight_through=straight_through)
    gate(torch.tensor([[3.0, 4.0, 5.0]])).sum().backward()
    assert gate.location.grad.tolist() == [3 * closed, 4 * closed, 5.0]
    gate.location.grad = None
    count = gate.expected_l0()
    assert count == 1
    count.backward()
    assert gate.location.grad.tolist() == [0.0, 0.0, 1.0]


def test_gradcheck_off_the_kink():
    gate = gate_at([-1.0, 0.7, 0.5]).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    location = gate.location.detach().clone().requires_grad_()
    run = lambda x, location: torch.func.functional_call(gate, {"location": location}, (x,))  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, location))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_and_nan(dtype):
    gate = gate_at([0.5, -1.0, 2.0])
    x = torch.tensor([[1.0, 2.0, float("nan")]], dtype=dtype)
    result = gate(x)
    assert result.dtype == dtype
    assert result[0, :2].tolist() == [0.5, 0.0]
    assert result[0, 2].isnan()


def test_closed_gates_reopen_only_straight_through():
    x = torch.randn(200, 1)
    for straight_through in (False, True):
        gate = gate_at([-0.1], straight_through=straight_through)
        optimizer = torch.optim.SGD(gate.parameters(), lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            (gate(x) - x).square().mean().backward()
            optimizer.step()
        assert bool(gate.location > 0) == straight_through


def test_compiled():
    torch._dynamo.reset()
    gate, x = nn.Sequential(gate_at([-1.0, 0.5, 1.0], straight_through=True)), torch.randn(4, 3)
    torch.testing.assert_close(torch.compile(gate, fullgraph=True, backend="aot_eager")(x), gate(x))


@pytest.mark.parametrize("start", [0.0, -1.0, float("inf"), float("nan")])
def test_refusals(start):
    with pytest.raises(ValueError, match="start= must be positive"):
        sa.nn.ReluGate(3, start=start)
    with pytest.raises(ValueError, match="straight_through= must be True or False"):
        sa.nn.ReluGate(3, straight_through="yes")
