"""What every penalty must do, for every row of the table."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

import sparsact as sa
from cases import DTYPES, PENALTIES, PenaltyCase, by_name

penalties = pytest.mark.parametrize("case", PENALTIES, ids=by_name)
convex = pytest.mark.parametrize("case", [c for c in PENALTIES if c.convex], ids=by_name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
POINTS = [0.0, 0.05, 0.3, -0.35, 0.7, -0.71, 1.0, -1.6, 2.5]


def objective(case: PenaltyCase, u: Tensor, x: Tensor, step: float) -> Tensor:
    """``½‖u − x‖² + step·penalty(u)`` for each row of `u`."""
    terms = case.terms(u).reshape(len(u), -1).sum(1)
    return 0.5 * (u - x).square().sum(1) + step * terms


@penalties
@dtypes
@pytest.mark.parametrize("shape", [(6, 8), (1, 1), (33, 17), (7, 1000)])
def test_value_is_that_of_the_book(case, dtype, shape):
    x = torch.randn(shape).to(dtype)
    value = case.penalty(x)
    expected = case.terms(x.double()).sum()
    assert value.shape == ()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@penalties
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_beyond_the_range_of_half_precision(case, dtype):
    x = torch.full((400, 500), 2.0, dtype=dtype, requires_grad=True)
    value = case.penalty(x)
    expected = float(case.terms(x.detach().double()).sum())
    assert expected > 65504
    assert value.item() == pytest.approx(expected, rel=1e-5)
    (grad,) = torch.autograd.grad(value, x)
    (wanted,) = torch.autograd.grad(case.penalty(y := x.detach().float().requires_grad_()), y)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.float(), wanted, rtol=1e-2, atol=1e-6)


@penalties
def test_gradient_is_exact(case):
    x = torch.randn(5, 6, dtype=torch.float64)
    x = torch.where(x.abs() < 0.05, 0.5, x).requires_grad_()
    assert torch.autograd.gradcheck(case.penalty, x)


@penalties
@dtypes
def test_gradient_is_zero_at_zero(case, dtype):
    x = torch.zeros(4, 6, dtype=dtype, requires_grad=True)
    (grad,) = torch.autograd.grad(case.penalty(x), x)
    assert grad.equal(torch.zeros_like(x))


@penalties
def test_nan_and_infinity_are_not_hidden(case):
    assert case.penalty(torch.tensor([[1.0, math.nan]])).isnan()
    assert case.penalty(torch.tensor([[1.0, -math.inf]])).item() == math.inf


@penalties
@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_empty_is_free(case, shape):
    x = torch.empty(shape, requires_grad=True)
    value = case.penalty(x)
    assert value.item() == 0
    value.backward()
    assert case.penalty.prox(x.detach(), 1.0).shape == shape


@penalties
@pytest.mark.parametrize("step", [0.1, 1.0, 3.0])
def test_prox_is_the_minimiser_that_brute_force_finds(case, step):
    grid = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    for point in POINTS:
        x = torch.tensor([[point]], dtype=torch.float64)
        candidates = torch.cat([grid, torch.tensor([*case.kinks, point], dtype=torch.float64)])
        costs = objective(case, candidates[:, None], x, step)
        best = candidates[costs.argmin()]
        got = case.penalty.prox(x, step)
        assert objective(case, got, x, step).item() <= costs.min().item() + 1e-12
        if case.convex:
            assert got.item() == pytest.approx(best.item(), abs=2e-4)


@convex
@pytest.mark.parametrize("step", [0.1, 3.0])
def test_prox_of_a_convex_penalty_does_not_expand(case, step):
    x, y = torch.randn(2, 50, 8, dtype=torch.float64)
    moved = case.penalty.prox(x, step) - case.penalty.prox(y, step)
    assert moved.norm() <= (x - y).norm()
    assert moved.norm() > 0


@penalties
@dtypes
def test_prox_keeps_dtype_shape_and_input(case, dtype):
    x = torch.randn(3, 4, 6).to(dtype)
    before = x.clone()
    result = case.penalty.prox(x, 0.5)
    assert result.dtype == dtype
    assert result.shape == x.shape
    assert x.equal(before)
    assert case.penalty.prox(x, 0.0).equal(x)


@penalties
@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_refuses_a_bad_coefficient(case, bad):
    name = fields(case.penalty)[0].name
    with pytest.raises(ValueError, match=f"{name} must be finite and not negative"):
        replace(case.penalty, **{name: bad})


@penalties
def test_coefficient_scales_the_value(case):
    x = torch.randn(6, 8)
    name = fields(case.penalty)[0].name
    doubled = replace(case.penalty, **{name: 2 * getattr(case.penalty, name)})
    free = replace(case.penalty, **{name: 0.0})
    torch.testing.assert_close(doubled(x), 2 * case.penalty(x))
    assert free(x).item() == 0


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
def test_elastic_net_refuses_a_ratio_outside_the_unit_interval(bad):
    with pytest.raises(ValueError, match=r"l1_ratio must lie in \[0, 1\]"):
        sa.ElasticNet(0.1, l1_ratio=bad)
