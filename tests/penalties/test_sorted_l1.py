"""SLOPE and OSCAR against scikit-learn's isotonic regression and the condition of optimality."""

import numpy as np
import pytest
import torch
from sklearn.isotonic import isotonic_regression
from torch import nn

import sparsact as sa
from sparsact.penalties.sorted_l1 import non_increasing


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 17), (2, 400)])
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_equals_scikit_learn(shape, ties):
    rows = torch.randn(shape, dtype=torch.float64) - 0.02 * torch.arange(shape[1])
    rows = rows.round(decimals=1) if ties else rows
    expected = np.stack([isotonic_regression(row, increasing=False) for row in rows.numpy()])
    torch.testing.assert_close(non_increasing(rows), torch.from_numpy(expected))
    if not ties and shape[1] < 100:
        assert torch.autograd.gradcheck(non_increasing, rows.requires_grad_())


def test_pooling_of_a_long_rising_row():
    rows = torch.arange(5000.0)[None]
    assert non_increasing(rows).equal(torch.full((1, 5000), 4999 / 2))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_prox_fulfils_the_condition_of_optimality(dim):
    """``x − u`` lies in the subdifferential: its dual norm is 1, and ``⟨x − u, u⟩ = J(u)``."""
    x = torch.randn(9, 9, dtype=torch.float64)
    levels = torch.linspace(1.0, 0.1, 9, dtype=torch.float64)
    penalty = sa.SLOPE(0.7, lambdas=levels.tolist(), dim=dim)
    u = penalty.prox(x, 0.9)
    rest = (x - u).movedim(dim, -1)
    sums = rest.abs().sort(-1, descending=True).values.cumsum(-1)
    assert (sums <= 0.63 * levels.cumsum(0) + 1e-12).all()
    torch.testing.assert_close((rest * u.movedim(dim, -1)).sum(), 0.9 * penalty(u))
    assert 0 < (u == 0).sum() < 81


def test_equal_levels_are_l1():
    x = torch.randn(4, 6)
    slope = sa.SLOPE(0.3, lambdas=[1.0] * 6)
    torch.testing.assert_close(slope(x), sa.L1(0.3)(x))
    torch.testing.assert_close(slope.prox(x, 1.5), sa.L1(0.3).prox(x, 1.5))
    torch.testing.assert_close(sa.OSCAR(0.3, 0.0).prox(x, 1.5), sa.L1(0.3).prox(x, 1.5))


def test_correlated_features_get_equal_coefficients():
    x = torch.randn(80, 5)
    x[:, 1] = x[:, 0] + 0.01 * torch.randn(80)
    y = x @ torch.tensor([1.0, 1.0, 0.0, 0.0, 0.3])
    model = nn.Linear(5, 1, bias=False)
    inner = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer = sa.optim.Proximal(inner, model, {"weight": sa.OSCAR(0.05, pairwise=0.3)})
    for _ in range(400):
        optimizer.zero_grad()
        (model(x)[:, 0] - y).square().mean().backward()
        optimizer.step()
    weight = model.weight[0]
    assert weight[0] == weight[1] != 0
    assert (weight[2:4] == 0).all()


def test_sparse_codes_with_slope():
    dictionary = nn.functional.normalize(torch.randn(8, 12, dtype=torch.float64), dim=1)
    x = torch.randn(3, 12, dtype=torch.float64)
    penalty = sa.SLOPE(0.2)
    codes = sa.coding.sparse_code(x, dictionary, penalty, tol=1e-10, steps=5000)
    correlation = (x - codes @ dictionary) @ dictionary.T
    torch.testing.assert_close((correlation * codes).sum(), penalty(codes), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="reaches across signals"):
        sa.coding.sparse_code(x, dictionary, sa.SLOPE(0.2, dim=0))
    with pytest.raises(ValueError, match="implicit gradient of SLOPE"):
        sa.coding.sparse_code(x.requires_grad_(), dictionary, penalty)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sa.SLOPE(1.0, lambdas=[1.0, 2.0]), "do not increase"),
        (lambda: sa.SLOPE(1.0, lambdas=[-1.0]), "lambdas= must be finite and not negative"),
        (lambda: sa.SLOPE(1.0, q=1.0), "q= must lie strictly"),
        (lambda: sa.SLOPE(1.0, lambdas=[1.0])(torch.ones(3)), "lambdas= has 1 numbers, but"),
        (lambda: sa.OSCAR(1.0, dim=2)(torch.ones(3)), "dim=2 does not exist"),
        (lambda: sa.OSCAR(1.0, pairwise=-1.0), "pairwise= must be finite"),
        (lambda: sa.OSCAR(1.0).prox(torch.ones(3), torch.ones(3)), "its own step size"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
