"""A learned λ moves where it should, on real data."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import sparsact as sa


def train(model: nn.Sequential, x: Tensor, y: Tensor, strength: float, steps: int) -> float:
    """Train with an L1 penalty on the activations; returns the mean |λ| at the end."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with sa.ActivationPenalty(model, {"1": sa.L1(strength)}) as penalty:
        for _ in range(steps):
            optimizer.zero_grad()
            (nn.functional.cross_entropy(model(x), y) + penalty()).backward()
            optimizer.step()
    module = model[1]
    assert isinstance(module, sa.nn.ThresholdModule)
    assert isinstance(module.lambd, Tensor)
    return float(module.lambd.detach().abs().mean())


def test_lambda_grows_with_a_penalty_and_falls_without():
    digits = load_digits()
    x, y = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
    threshold = sa.nn.Softshrink(0.2, learnable=True, num_parameters=64, channel_dim=-1)
    model = nn.Sequential(nn.Linear(64, 64), threshold, nn.Linear(64, 10))
    penalised = train(model, x, y, strength=0.3, steps=60)
    alone = train(model, x, y, strength=0.0, steps=60)
    assert penalised > 0.2 + 0.02
    assert alone < penalised - 0.005


@pytest.mark.parametrize(
    ("cls", "leaves"),
    [
        (sa.nn.Softshrink, True),
        (sa.nn.Firmshrink, True),
        (sa.nn.SigmoidGate, True),
        (sa.nn.GroupSoftshrink, True),
        (sa.nn.Clip, True),
        (sa.nn.Hardshrink, False),
        (sa.nn.JumpReLU, False),
        (sa.nn.SCAD, False),
        (sa.nn.Garrote, False),
        (sa.nn.Halfshrink, False),
    ],
)
def test_which_thresholds_can_leave_zero(cls, leaves):
    """The derivative to λ at λ = 0, as the limit of differences of the output."""
    x = torch.linspace(0.2, 3, 40, dtype=torch.float64)[None]
    module = cls(0.0, learnable=True).double()
    module(x).sum().backward()
    assert (module.lambd.grad != 0) == leaves
    step = 1e-9
    moved = cls(step, learnable=True).double()
    slope = (moved(x) - module(x)).sum() / step
    torch.testing.assert_close(module.lambd.grad[0], slope, atol=1e-2, rtol=1e-3)
    assert leaves or "cannot leave 0" in cls.__doc__
