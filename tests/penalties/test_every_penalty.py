"""The tests that every penalty passes, for every row of the table."""

import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

import sparsact as sa
from cases import DTYPES, PENALTIES, PenaltyCase, by_name

pytestmark = pytest.mark.versions


def rows(keep: Callable[[PenaltyCase], bool] = lambda case: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [c for c in PENALTIES if keep(c)], ids=by_name)


penalties = rows()
proximal = rows(lambda case: case.proximal)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
POINTS = [0.0, 0.05, 0.3, -0.35, 0.7, -0.71, 1.0, -1.6, 2.5]


def objective(case: PenaltyCase, u: Tensor, x: Tensor, step: float) -> Tensor:
    """``½‖u − x‖² + step·penalty(u)`` for each row of `u`."""
    terms = case.terms(u).reshape(len(u), -1).sum(1)
    return 0.5 * (u - x).square().sum(1) + step * terms


def search(case: PenaltyCase) -> Tensor:
    """Rows over all of [−3, 3]^block, and the kinks."""
    kinks = torch.tensor(case.kinks, dtype=torch.float64)
    steps = 60001 if case.block == 1 else 301
    axis = torch.cat([torch.linspace(-3, 3, steps, dtype=torch.float64), kinks])
    return torch.cartesian_prod(*[axis] * case.block).reshape(-1, case.block)


@penalties
@dtypes
@pytest.mark.parametrize("shape", [(6, 8), (1, 2), (33, 18), (7, 1000)])
def test_value_equals_the_published_formula(case, dtype, shape):
    x = case.domain(torch.randn(shape)).to(dtype)
    value = case.penalty(x)
    expected = case.terms(x.double()).sum()
    assert value.shape == ()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@proximal
def test_a_number_has_all_its_digits(case):
    name = fields(case.penalty)[0].name
    level = 0.3 * getattr(case.penalty, name)
    plain, tensor = (
        replace(case.penalty, **{name: value})
        for value in (level, torch.as_tensor(level, dtype=torch.float64))
    )
    x = case.domain(torch.randn(24, 8, dtype=torch.float64))
    torch.testing.assert_close(plain.prox(x, 0.1), tensor.prox(x, 0.1), rtol=1e-13, atol=1e-13)


@penalties
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_beyond_the_range_of_half_precision(case, dtype):
    x = case.domain(torch.full((400, 500), 2.0)).to(dtype).requires_grad_()
    value = case.penalty(x)
    expected = float(case.terms(x.detach().double()).sum())
    assert (expected > 65504) == case.grows or isinstance(case.penalty, sa.HoyerSquare)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    (grad,) = torch.autograd.grad(value, x)
    (wide_grad,) = torch.autograd.grad(case.penalty(y := x.detach().float().requires_grad_()), y)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.float(), wide_grad, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("penalty", [sa.L1(1.0), sa.L2(1.0)])
def test_long_sums_stay_accurate(penalty, dtype):
    x = torch.randn(2000, 1000).to(dtype)
    expected = penalty(x.double()).item()
    assert penalty(x).item() == pytest.approx(expected, rel=2e-6)


@rows(lambda case: case.exact)
def test_gradient_is_exact(case):
    x = torch.randn(5, 6, dtype=torch.float64)
    x = case.domain(torch.where(x.abs() < 0.05, 0.5, x)).requires_grad_()
    assert torch.autograd.gradcheck(case.penalty, x)


@penalties
@dtypes
def test_gradient_is_zero_at_zero(case, dtype):
    x = torch.zeros(4, 6, dtype=dtype, requires_grad=True)
    (grad,) = torch.autograd.grad(case.penalty(x), x)
    assert grad.equal(torch.zeros_like(x))


@rows(lambda case: case.domain is not torch.sigmoid)
@dtypes
def test_a_zero_sample_among_others_gets_no_gradient(case, dtype):
    x = torch.randn(4, 6).to(dtype)
    x[1] = 0
    x.requires_grad_()
    (grad,) = torch.autograd.grad(case.penalty(x), x)
    assert grad.isfinite().all()
    assert (grad[1] == 0).all()


@rows(lambda case: case.exact and case.domain is not torch.sigmoid)
def test_nan_and_infinity_reach_the_value(case):
    assert case.penalty(torch.tensor([[1.0, math.nan]])).isnan()
    assert case.penalty(torch.tensor([[1.0, -math.inf]])).isfinite() == case.bounded


@penalties
@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_empty_input_costs_nothing(case, shape):
    x = torch.empty(shape, requires_grad=True)
    value = case.penalty(x)
    assert value.item() == 0
    value.backward()
    if case.proximal:
        assert case.penalty.prox(x.detach(), 1.0).shape == shape


@penalties
def test_compiled_equals_eager(case):
    torch._dynamo.reset()
    x = case.domain(torch.randn(6, 8)).requires_grad_()
    compiled = torch.compile(lambda x: case.penalty(x), fullgraph=True)
    torch.testing.assert_close(compiled(x), case.penalty(x))
    (got,) = torch.autograd.grad(compiled(x), x)
    (want,) = torch.autograd.grad(case.penalty(x), x)
    torch.testing.assert_close(got, want)


@proximal
@pytest.mark.parametrize("step", [0.1, 1.0, 3.0])
def test_prox_is_the_minimiser_that_brute_force_finds(case, step):
    candidates = search(case)
    spacing = 6 / 300 if case.block > 1 else 6 / 60000
    for start in range(0, len(POINTS) - case.block + 1):
        x = torch.tensor([POINTS[start : start + case.block]], dtype=torch.float64)
        costs = objective(case, torch.cat([candidates, x]), x, step)
        got = case.penalty.prox(x, step)
        assert objective(case, got, x, step).item() <= costs.min().item() + 1e-12
        if case.convex:
            best = torch.cat([candidates, x])[costs.argmin()]
            assert (got[0] - best).abs().max() <= spacing


@proximal
@dtypes
def test_prox_in_every_dtype(case, dtype):
    x = torch.randn(50, 8).to(dtype)
    got = case.penalty.prox(x, 0.5)
    want = case.penalty.prox(x.double(), 0.5)
    assert (got == 0).equal(want.to(dtype) == 0)
    torch.testing.assert_close(got, want.to(dtype))


@rows(lambda case: case.proximal and case.convex)
@pytest.mark.parametrize("step", [0.1, 3.0])
def test_prox_of_a_convex_penalty_does_not_expand(case, step):
    x, y = 3 * torch.randn(2, 50, 8, dtype=torch.float64)
    moved = case.penalty.prox(x, step) - case.penalty.prox(y, step)
    assert moved.norm() <= (x - y).norm()
    assert moved.norm() > 0


@proximal
@dtypes
def test_prox_keeps_dtype_shape_and_input(case, dtype):
    x = torch.randn(3, 4, 6).to(dtype)
    before = x.clone()
    result = case.penalty.prox(x, 0.5)
    assert result.dtype == dtype
    assert result.shape == x.shape
    assert x.equal(before)
    assert not result.equal(x)
    assert case.penalty.prox(x, 0.0).equal(x)


@proximal
def test_prox_keeps_infinity_and_nan(case):
    x = torch.tensor([[math.inf, math.inf], [math.nan, math.nan], [-3e38, 3e38]])
    result = case.penalty.prox(x, 0.5)
    assert result[1].isnan().all()
    if case.block == 1:
        assert result[0].equal(x[0])
        assert (result[2].sign() == x[2].sign()).all()


@rows(lambda case: not case.proximal)
def test_a_missing_prox_raises_not_implemented(case):
    with pytest.raises(NotImplementedError, match=f"{case.name} has no proximal operator"):
        case.penalty.prox(torch.ones(2, 4), 0.1)


@penalties
@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_refuses_a_bad_coefficient(case, bad):
    name = fields(case.penalty)[0].name
    with pytest.raises(ValueError, match=f"{name}= must be finite and not negative"):
        replace(case.penalty, **{name: bad})


@penalties
def test_coefficient_scales_the_value(case):
    x = case.domain(torch.randn(6, 8))
    name = fields(case.penalty)[0].name
    doubled = replace(case.penalty, **{name: 2 * getattr(case.penalty, name)})
    free = replace(case.penalty, **{name: 0.0})
    torch.testing.assert_close(doubled(x), 2 * case.penalty(x))
    assert free(x).item() == 0
