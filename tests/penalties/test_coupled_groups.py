"""Coupled groups: all weights of a unit shrink to zero together."""

import math

import pytest
import torch
from torch import nn

import sparsact as sa
from sparsact.optim import Proximal
from sparsact.penalties import coupled_groups

X = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 3, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 16, 2),
    )


def test_value_by_hand():
    """All weights of one unit under one norm, scaled by the root of their number."""
    model = net()
    for norm in (model[1],):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    expected = 0.0
    for i in range(5):
        parts = [model[0].weight[i], model[0].bias[i], model[1].weight[i], model[1].bias[i]]
        parts = torch.cat([part.flatten() for part in (*parts, model[3].weight[:, i])])
        expected += math.sqrt(len(parts)) * parts.norm().item()
    for i in range(3):
        columns = model[6].weight[:, 16 * i : 16 * (i + 1)]
        parts = torch.cat([model[3].weight[i].flatten(), columns.flatten()])
        expected += math.sqrt(len(parts)) * parts.norm().item()
    groups = coupled_groups(model, X)
    assert len(groups) == 8
    value = sa.WeightPenalty(model, {groups: sa.GroupLasso(0.1)})()
    assert value.item() == pytest.approx(0.1 * expected, rel=1e-5)
    value.backward()
    assert model[1].weight.grad.abs().min() > 0


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_prox_of_disjoint_groups_is_exact(optimizer):
    """Against the prox of one matrix with a group a row."""
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    groups = coupled_groups(model, torch.randn(2, 3).double(), readers=False)
    assert groups.names == ["0.weight", "0.bias"]
    penalty = sa.GroupLasso(0.3)
    proximal = Proximal(optimizer(model.parameters(), lr=0.1), model, {groups: penalty})
    plain = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    plain.load_state_dict(model.state_dict())
    steps = optimizer(plain.parameters(), lr=0.1)
    for each, o in ((model, proximal), (plain, steps)):
        each(torch.ones(2, 3).double()).square().sum().backward()
        o.step()

    def size(p):
        if optimizer is torch.optim.SGD:
            return torch.full_like(p, 0.1)
        second = steps.state[p]["exp_avg_sq"]
        return 0.1 / ((second / (1 - 0.999)).sqrt() + 1e-8)

    layer = plain[0]
    rows = torch.cat([layer.weight, layer.bias[:, None]], 1)
    expected = penalty.prox(rows, torch.cat([size(layer.weight), size(layer.bias)[:, None]], 1))
    found = torch.cat([model[0].weight, model[0].bias[:, None]], 1)
    torch.testing.assert_close(found, expected)


def test_training_gives_units_that_can_be_removed():
    model = net()
    groups = coupled_groups(model, X)
    inner = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    optimizer = Proximal(inner, model, {groups: sa.GroupLasso(0.02)})
    for _ in range(60):
        optimizer.zero_grad()
        (model(X) - X[:, 0, 0, :2].abs()).square().mean().backward()
        optimizer.step()
    model.eval()
    zero = int((model[1].weight == 0).sum())
    assert zero > 0
    unseen = torch.randn(7, 1, 6, 6)
    before = model(unseen)
    report = sa.prune_zero_units(model, X[:1])
    assert report.removed["0"] == min(zero, 4)
    torch.testing.assert_close(model(unseen), before, rtol=1e-5, atol=1e-5)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.inner(x).relu())


def test_a_channel_of_a_stream_is_one_group():
    """The square weight is a row and a column of the groups: an entry shrinks by both."""
    model = Residual()
    groups = coupled_groups(model, torch.randn(2, 4))
    assert len(groups) == 6
    assert set(groups.names) == {
        *("stem.weight", "stem.bias", "inner.weight", "inner.bias", "head.weight")
    }
    optimizer = Proximal(
        torch.optim.SGD(model.parameters(), lr=0.1), model, {groups: sa.GroupLasso(100.0)}
    )
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    assert optimizer.nonzero() == dict.fromkeys(groups.names, 0)


def test_refusals():
    with pytest.raises(ValueError, match=r"no unit of the model can be removed.*outputs"):
        coupled_groups(nn.Sequential(nn.Linear(3, 2)), torch.randn(1, 3))
    model = net()
    with pytest.raises(ValueError, match="leave out dim="):
        sa.WeightPenalty(model, {coupled_groups(model, X): sa.GroupLasso(1.0, dim=1)})


def test_groups_and_patterns_together():
    model = net()
    groups = coupled_groups(model, X)
    both = sa.WeightPenalty(model, {groups: sa.L2(0.1), "6.bias": sa.L2(0.5)})
    alone = sa.WeightPenalty(model, {groups: sa.L2(0.1)})()
    torch.testing.assert_close(both(), alone + 0.5 * model[6].bias.square().sum())
