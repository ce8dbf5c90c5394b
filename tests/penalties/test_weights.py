"""Weights per entry and per group, and groups by lists of indices, against brute force."""

import math

import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

import sparsact as sa
from cases import scad_terms
from sparsact.optim import Proximal

GROUPS = [[2, 0], [3]]  # entry 1 belongs to no group
W = torch.tensor([0.5, 2.0, 0.0, 1.0])
ENTRY = torch.tensor([0.3, 1.0, 0.7, 1.6], dtype=torch.float64)


def norms(x, weights=(1.0, 1.0)):
    first = math.sqrt(2) * weights[0] * (x[:, 0].abs() ** 2 + x[:, 2].abs() ** 2).sqrt()
    return first + weights[1] * x[:, 3].abs()


CASES = {
    "L1": (sa.L1(0.6, weights=W), lambda x: 0.6 * (W * x.abs()).sum(1)),
    "ElasticNet": (
        sa.ElasticNet(0.6, 0.3, weights=W),
        lambda x: 0.6 * (W * (0.3 * x.abs() + 0.35 * x.abs() ** 2)).sum(1),
    ),
    "LogSum": (
        sa.LogSum(0.6, 0.3, weights=W),
        lambda x: 0.6 * (W * torch.log1p(x.abs() / 0.3)).sum(1),
    ),
    "LHalf": (sa.LHalf(0.6, weights=W), lambda x: 0.6 * (W * x.abs().sqrt()).sum(1)),
    "MCP": (
        sa.MCP(0.6, 0.5, 2.0, weights=W),
        lambda x: 0.6 * (W * torch.where(x.abs() < 1, x.abs() / 2 - x.abs() ** 2 / 4, 0.25)).sum(1),
    ),
    "SCAD": (sa.SCAD(0.6, 0.5, weights=W), lambda x: (W * scad_terms(x, 0.6)).sum(1)),
    "GroupLasso": (sa.GroupLasso(0.6, groups=GROUPS), lambda x: 0.6 * norms(x)),
    "GroupLasso-weights": (
        sa.GroupLasso(0.6, groups=GROUPS, weights=[0.4, 2.0]),
        lambda x: 0.6 * norms(x, (0.4, 2.0)),
    ),
    "GroupLasso-blocks": (
        sa.GroupLasso(0.6, group_size=2, scale="none", weights=[0.4, 2.0]),
        lambda x: 0.6 * (0.4 * x[:, :2].norm(dim=1) + 2.0 * x[:, 2:].norm(dim=1)),
    ),
    "SparseGroupLasso": (
        sa.SparseGroupLasso(0.6, 0.4, groups=GROUPS, weights=[0.4, 2.0]),
        lambda x: 0.6 * (0.4 * x.abs().sum(1) + 0.6 * norms(x, (0.4, 2.0))),
    ),
}
cases = pytest.mark.parametrize(("penalty", "value"), CASES.values(), ids=CASES.keys())
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])


@cases
@dtypes
def test_value_and_gradient(penalty, value, dtype):
    x = torch.randn(5, 4, dtype=dtype)
    torch.testing.assert_close(penalty(x), value(x).sum().to(torch.float64))
    assert torch.autograd.gradcheck(penalty, x.requires_grad_())
    zeros = torch.zeros(5, 4, dtype=dtype, requires_grad=True)
    assert not torch.autograd.grad(penalty(zeros), zeros)[0].any()


@cases
@dtypes
@pytest.mark.parametrize("step", [0.9, ENTRY])
def test_prox_beats_every_point_nearby(penalty, value, dtype, step):
    scales = torch.logspace(-4, 0.5, 300, dtype=torch.float64).repeat_interleave(40)[:, None]
    for _ in range(15):
        x = torch.randn(1, 4, dtype=dtype) * 1.5
        u = penalty.prox(x, step.expand(1, 4) if isinstance(step, torch.Tensor) else step)
        moves = torch.randn(len(scales), 4, dtype=dtype) * scales
        sparse = moves * (torch.rand(moves.shape) < 0.4)
        zeroed = u * (torch.rand(2000, 4) < 0.5)
        points = torch.cat([u + moves, u + sparse, zeroed, x])

        def cost(points, x=x):
            return ((points - x).abs().square() / step).sum(1) / 2 + value(points)

        assert (cost(points) >= cost(u) - 1e-9).all()


def test_proximal_with_weights_equals_scikit_learn():
    """A lasso with weights is a lasso on features that are divided by them."""
    x = torch.randn(60, 6, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0, 0.1]).double()
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.0, 0.3], dtype=torch.float64)
    expected = (
        Lasso(0.1, fit_intercept=False, tol=1e-12).fit(x / weights, y).coef_ / weights.numpy()
    )
    model = nn.Linear(6, 1, bias=False, dtype=torch.float64)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = Proximal(inner, model, {"weight": sa.L1(0.1, weights=weights)})
    for _ in range(1500):
        optimizer.zero_grad()
        (0.5 * (model(x)[:, 0] - y).square().mean()).backward()
        optimizer.step()
    torch.testing.assert_close(
        model.weight.detach()[0], torch.from_numpy(expected), rtol=0, atol=1e-6
    )


def test_sparse_codes_with_weights():
    """The gap of the lasso without weights would stop the solver early."""
    dictionary = nn.functional.normalize(torch.randn(8, 12, dtype=torch.float64), dim=1)
    x, weights = torch.randn(3, 12, dtype=torch.float64), torch.rand(8).double() + 0.2
    codes = sa.coding.sparse_code(x, dictionary, sa.L1(0.3, weights=weights), tol=1e-12, steps=5000)
    correlation = (x - codes @ dictionary) @ dictionary.T
    live = codes != 0
    torch.testing.assert_close(
        correlation[live], (0.3 * weights * codes.sign())[live], rtol=0, atol=1e-6
    )
    assert (correlation.abs() <= 0.3 * weights + 1e-6).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sa.L1(1.0, weights=[-1.0]), "weights= must be finite and not negative"),
        (lambda: sa.ElasticNet(1.0, weights=[math.nan]), "weights= must be finite and not"),
        (lambda: sa.GroupLasso(1.0, groups=GROUPS, weights=[math.inf]), "weights= must be finite"),
        (lambda: sa.L1(1.0, weights=[1.0, 2.0])(torch.ones(3)), r"weights= of shape \(2,\) does"),
        (
            lambda: sa.GroupLasso(1.0, groups=GROUPS, weights=[1.0] * 3)(torch.ones(4)),
            "does not broadcast to the shape of the group norms",
        ),
    ],
)
def test_bad_weights(build, message):
    with pytest.raises(ValueError, match=message):
        build()
