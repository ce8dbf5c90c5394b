"""Latent groups against SciPy on the dual, a closed form, brute force and plain groups."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import sparsact as sa
from sparsact.coding import solve_sparse_code, sparse_code

CHAIN = [[0, 1, 2], [2, 3, 4], [4, 5], [1, 5]]
WEIGHTS = [1.0, 0.5, 2.0, 1.0]


def in_the_balls(cost, slope, levels):
    """The u of least cost with ``‖u_g‖ ≤ level_g``, by SLSQP."""
    limits = [
        {
            "type": "ineq",
            "fun": lambda u, g=g, level=level: level**2 - (u[g] ** 2).sum(),
            "jac": lambda u, g=g: -2 * u * np.isin(np.arange(len(u)), g),
        }
        for g, level in zip(CHAIN, levels, strict=True)
    ]
    options = {"ftol": 1e-15, "maxiter": 1000}
    start = np.zeros(6)
    return minimize(cost, start, jac=slope, constraints=limits, method="SLSQP", options=options).x


@pytest.mark.parametrize("scale", ["sqrt", "none"])
def test_value_gradient_and_prox_equal_those_of_scipy(scale):
    x = np.random.default_rng(1).standard_normal((3, 7))
    roots = [len(group) ** 0.5 if scale == "sqrt" else 1.0 for group in CHAIN]
    levels = np.multiply(WEIGHTS, roots)
    penalty = sa.LatentGroupLasso(0.4, CHAIN, scale=scale, weights=WEIGHTS, tol=1e-13)
    point = torch.tensor(x, requires_grad=True)
    value = penalty(point)
    (gradient,) = torch.autograd.grad(value, point)
    shrunk = penalty.prox(point.detach(), 1.0).numpy()
    total = 0.0
    for row, slopes, left in zip(x[:, :6], gradient.numpy(), shrunk, strict=True):
        best = in_the_balls(lambda u, row=row: -u @ row, lambda u, row=row: -row, levels)
        total += 0.4 * best @ row
        np.testing.assert_allclose(slopes[:6], 0.4 * best, atol=1e-5)
        near = in_the_balls(
            lambda u, row=row: ((u - row) ** 2).sum() / 2, lambda u, row=row: u - row, 0.4 * levels
        )
        np.testing.assert_allclose(left[:6], row - near, atol=1e-5)
    assert value.item() == pytest.approx(total, rel=1e-8)
    np.testing.assert_array_equal(shrunk[:, 6], x[:, 6])  # in no group
    assert (gradient[:, 6] == 0).all()


def closed_form(x):
    """Of the groups {0, 1} and {1} with the levels 1 and 0.6, over the last dim."""
    size = x.norm(dim=-1)
    outside = 0.8 * x[..., 0].abs() + 0.6 * x[..., 1].abs()
    return torch.where(x[..., 1].abs() <= 0.6 * size, size, outside)


NESTED = sa.LatentGroupLasso(0.7, [[0, 1], [1]], scale="none", weights=[1.0, 0.6], tol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_value_and_gradient_have_a_closed_form_for_two_groups(dtype):
    x = torch.cat([torch.randn(60, 2), torch.zeros(2, 2), torch.eye(2), -1e4 * torch.eye(2)])
    x = x.to(dtype).requires_grad_()
    value = NESTED(x)
    expected = 0.7 * closed_form(x.double()).sum()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-6, atol=0)
    (got,) = torch.autograd.grad(value, x)
    (want,) = torch.autograd.grad(expected, x)
    smooth = x.detach().abs().amin(1) > 0
    torch.testing.assert_close(got[smooth], want[smooth], rtol=1e-2, atol=1e-3)
    assert (got[60:62] == 0).all()


@pytest.mark.parametrize("step", [0.1, 1.0, 3.0])
def test_prox_is_the_minimiser_that_brute_force_finds(step):
    axis = torch.linspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    terms = 0.7 * step * closed_form(grid)
    for x in torch.tensor(
        [[0.0, 0.3], [0.7, -0.35], [-1.6, 2.5], [2.5, 0.05], [1.0, 1.0]]
    ).double():
        costs = 0.5 * (grid - x).square().sum(1) + terms
        got = NESTED.prox(x, step)
        cost = 0.5 * (got - x).square().sum() + 0.7 * step * closed_form(got)
        assert cost <= costs.min() + 1e-10
        assert (got - grid[costs.argmin()]).abs().max() <= 0.011
        assert (got == 0).equal(grid[costs.argmin()].abs() < 1e-9)


def test_groups_without_a_common_entry_are_a_group_lasso():
    x = torch.randn(20, 6, dtype=torch.float64)
    groups = [[0, 2], [1, 3, 5]]
    plain, latent = sa.GroupLasso(0.5, groups=groups), sa.LatentGroupLasso(0.5, groups)
    torch.testing.assert_close(latent(x), plain(x))
    expected = plain.prox(x, 1.3)
    got = latent.prox(x, 1.3)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert (got == 0).equal(expected == 0)


def test_the_code_is_that_of_repeated_atoms_and_a_union_of_groups():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(6, 8, dtype=torch.float64, generator=generator)
    x = torch.randn(2, 8, dtype=torch.float64, generator=generator)
    code = solve_sparse_code(x, atoms, sa.LatentGroupLasso(1.0, CHAIN), tol=1e-6)
    assert code.converged
    places = [place for group in CHAIN for place in group]
    starts = np.cumsum([0, *map(len, CHAIN)])
    apart = [list(range(a, b)) for a, b in pairwise(starts)]
    copies = sparse_code(x, atoms[places], sa.GroupLasso(1.0, groups=apart), tol=1e-7)
    together = torch.zeros_like(code.codes).index_add(1, torch.tensor(places), copies)
    torch.testing.assert_close(code.codes, together, atol=1e-3, rtol=0)
    for row in code.codes != 0:
        inside = [group for group in CHAIN if row[group].all()]
        union = torch.zeros_like(row)
        union[sorted({index for group in inside for index in group})] = True
        assert row.equal(union)
    assert (code.codes == 0).any()


def test_free_entries_other_dims_and_extreme_rows():
    x = torch.randn(6, 3, 4)
    first = sa.LatentGroupLasso(0.6, CHAIN, dim=0)
    last = sa.LatentGroupLasso(0.6, CHAIN)
    torch.testing.assert_close(first(x), last(x.movedim(0, -1)))
    torch.testing.assert_close(first.prox(x, 1.0), last.prox(x.movedim(0, -1), 1.0).movedim(-1, 0))
    rows = torch.randn(5, 6)
    assert last.prox(rows, 0.0).equal(rows)
    open_group = sa.LatentGroupLasso(9.0, CHAIN, weights=[1.0, 0.0, 1.0, 1.0])
    assert open_group.prox(rows, 1.0)[:, 2:5].equal(rows[:, 2:5])
    assert not open_group.prox(rows, 1.0)[:, [0, 1, 5]].any()
    assert open_group(torch.tensor([0.0, 0, 1, 2, 3, 0])).item() == 0
    rows[0, 0], rows[1, 1] = torch.nan, torch.inf
    assert last.prox(rows, 0.5)[0].isnan().any()
    assert last(rows[:1]).isnan()
    assert not last(rows[1:2]).isfinite()
    torch.testing.assert_close(last.prox(rows, 0.5)[2:], last.prox(rows[2:], 0.5))
    assert last(rows[:0]).item() == 0
    assert last.prox(rows[:0], 1.0).shape == (0, 6)
    scaled = torch.tensor([[1e-30], [1e30]], dtype=torch.float64) * torch.ones(6)
    torch.testing.assert_close(last(scaled[0]) * 1e60, last(scaled[1]))
    phases = torch.polar(torch.ones(6), torch.arange(6.0))
    torch.testing.assert_close(last(torch.ones(6) * phases), last(torch.ones(6)))
    torch.testing.assert_close(
        last.prox(5 * torch.ones(6) * phases, 1.0), last.prox(5 * torch.ones(6), 1.0) * phases
    )


def test_proximal_training_keeps_a_union_of_groups_of_inputs():
    model = torch.nn.Linear(6, 2, bias=False)
    inner = torch.optim.SGD(model.parameters(), lr=0.05)
    penalty = sa.LatentGroupLasso(0.2, [[0, 1, 2], [2, 3, 4], [4, 5]])
    optimizer = sa.optim.Proximal(inner, model, {"weight": penalty})
    x = torch.randn(200, 6)
    for _ in range(100):
        optimizer.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        optimizer.step()
    assert not model.weight[:, 3:].any()
    assert float(model.weight.detach()[0, 0]) > 0.3


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: sa.LatentGroupLasso(1.0, []), "at least one group"),
        (lambda: sa.LatentGroupLasso(1.0, [[0]], weights=[1.0, 2.0]), "one number per group"),
        (lambda: sa.LatentGroupLasso(1.0, [[4]])(torch.ones(2, 3)), "the index 4"),
        (lambda: sa.LatentGroupLasso(1.0, [[0]]).prox(torch.ones(2), torch.ones(2)), "step size"),
        (lambda: sa.LatentGroupLasso(1.0, [[0]], tol=-1.0), "tol="),
        (
            lambda: sparse_code(
                torch.ones(2, 2), torch.eye(2), sa.LatentGroupLasso(1.0, [[0]], dim=0)
            ),
            "reaches across signals",
        ),
    ],
)
def test_wrong_input_is_one_clear_error(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_what_is_not_reached_or_not_differentiated_is_said():
    x = torch.randn(20, 6, dtype=torch.float64, requires_grad=True)
    hasty = sa.LatentGroupLasso(0.4, CHAIN, steps=3)
    with pytest.warns(UserWarning, match="the value of LatentGroupLasso reached a relative gap"):
        hasty(x)
    with pytest.warns(UserWarning, match="the prox of LatentGroupLasso reached a relative gap"):
        hasty.prox(x.detach(), 1.0)
    (gradient,) = torch.autograd.grad(sa.LatentGroupLasso(0.4, CHAIN)(x), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(gradient.sum(), x)
