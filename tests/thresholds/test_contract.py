"""The numerical contract, for every row of the table of thresholds."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cases import DTYPES, LAMBDA, LENGTHS, PLAIN, THRESHOLDS, PlainCase, ThresholdCase, by_name
from sparsact.thresholds.fused_dispatch import fuse_from

thresholds = pytest.mark.parametrize("case", THRESHOLDS, ids=by_name)
functions = pytest.mark.parametrize("case", [*THRESHOLDS, *PLAIN], ids=by_name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


@pytest.fixture(autouse=True)
def _compiled_from_the_first_entry():
    """Use the compiled CPU operations wherever there is one: in float32 and bfloat16.

    Their plain versions run here in the other dtypes, and against the compiled ones in
    `test_fused_dispatch`.
    """
    with fuse_from(0):
        yield


def call(case: Any, x: Tensor, *args: Any) -> Tensor:
    return case.function(x) if isinstance(case, PlainCase) else case(x, *args)


def kinks(dtype: torch.dtype, length: int = 33, lambd: float = LAMBDA) -> Tensor:
    """All values at which rounding or a comparison can go wrong, repeated to `length`."""
    edge = torch.tensor([lambd, -lambd], dtype=torch.float64).to(dtype)
    zero, far = torch.zeros(2, dtype=dtype), torch.tensor([9.0, -9.0], dtype=dtype)
    info = torch.finfo(dtype)
    special = [0.0, -0.0, info.tiny, -info.tiny, info.max, -info.max, math.inf, -math.inf]
    values = torch.cat(
        [
            edge,
            torch.nextafter(edge, zero),
            torch.nextafter(edge, far),
            torch.tensor([*special, math.nan, 1.0, -1.0, 0.5, -0.5], dtype=dtype),
        ]
    )
    return values.repeat(length // len(values) + 1)[:length]


def wide(x: Tensor) -> Tensor:
    """`x` in the dtype in which thresholds are compared."""
    return x if x.dtype == torch.float64 else x.float()


@thresholds
@dtypes
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("form", ["float", "tensor"])
@pytest.mark.versions
def test_matches_the_formula_at_the_kinks(case, dtype, length, form):
    x = kinks(dtype, length)
    lambd = LAMBDA if form == "float" else torch.tensor(LAMBDA, dtype=wide(x).dtype)
    result = case(x, lambd)
    exact_lambda = float(torch.tensor(LAMBDA, dtype=wide(x).dtype))
    expected = case.reference(x.double(), exact_lambda).to(dtype)
    expected = torch.where(x.isnan(), x, expected)
    if case.dead is not None:
        dead = case.dead(wide(x), exact_lambda)
        expected = torch.where(dead, 0.0, expected)
        assert (result[dead] == 0).all()
    finite = x.isfinite()
    torch.testing.assert_close(result[finite], expected[finite])
    assert result.isnan().equal(x.isnan())
    if case.keeps_inf:
        positive = x == math.inf
        assert (result[positive] == math.inf).all()


@thresholds
@dtypes
@pytest.mark.parametrize("form", ["float", "tensor"])
@pytest.mark.versions
def test_forward_and_backward_agree_on_the_support(case, dtype, form):
    if case.dead is None:
        pytest.skip("no dead band")
    x = kinks(dtype, 1000)
    x = x[~x.isnan()].requires_grad_()
    lambd = LAMBDA if form == "float" else torch.tensor(LAMBDA)
    result = case(x, lambd)
    (grad,) = torch.autograd.grad(result, x, torch.ones_like(result))
    assert (grad != 0).equal(result != 0)


@functions
@dtypes
@pytest.mark.versions
def test_nan_stays_nan(case, dtype):
    x = torch.full((5, 33), math.nan, dtype=dtype)
    assert call(case, x).isnan().all()


@functions
@dtypes
def test_keeps_dtype_shape_and_input(case, dtype):
    x = torch.randn(3, 4, 5).to(dtype)
    before = x.clone()
    result = call(case, x)
    assert result.dtype == dtype
    assert result.shape == x.shape
    assert x.equal(before)


@functions
@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_empty(case, shape):
    x = torch.empty(shape, requires_grad=True)
    result = call(case, x)
    assert result.shape == shape
    result.sum().backward()


@functions
def test_zero_dimensional(case):
    assert call(case, torch.tensor(3.0)).shape == ()


@functions
def test_non_contiguous_equals_contiguous(case):
    x = torch.randn(12, 10)[::2, ::3]
    assert call(case, x).equal(call(case, x.contiguous()))


@functions
def test_keeps_memory_format(case):
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    assert call(case, x).is_contiguous(memory_format=torch.channels_last)


@functions
@pytest.mark.parametrize("bad", [torch.ones(3, dtype=torch.int64), torch.ones(3).bool(), [1.0]])
def test_refuses_what_is_not_floating_point(case, bad):
    with pytest.raises(TypeError, match=r"expects a (floating-point )?tensor"):
        call(case, bad)


@thresholds
@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_refuses_a_bad_threshold(case, bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        case(torch.ones(3), bad)


@thresholds
def test_refuses_a_threshold_that_does_not_broadcast(case):
    with pytest.raises(ValueError, match=r"\(2,\) does not broadcast .* \(3,\)"):
        case(torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="does not broadcast"):
        case(torch.ones(3), torch.ones(4, 3))


@thresholds
def test_gradcheck_off_the_kinks(case):
    x = torch.tensor([-1.3, -0.7, 0.02, 0.2, 0.9, 2.0], dtype=torch.float64, requires_grad=True)
    lambd = torch.tensor(0.4, dtype=torch.float64, requires_grad=not case.straight_through)
    assert torch.autograd.gradcheck(case, (x, lambd))
    if not case.straight_through:
        assert torch.autograd.gradgradcheck(case, (x, lambd))


@pytest.mark.parametrize("case", PLAIN, ids=by_name)
def test_gradcheck_of_plain_functions(case):
    x = torch.tensor([[-1.3, -0.7, 0.02, 0.2, 0.9, 2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(case.function, (x,))
    assert torch.autograd.gradgradcheck(case.function, (x,))


@thresholds
@settings(max_examples=25)
@given(data=st.data())
def test_threshold_broadcasts(case, data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    lambda_shape = [data.draw(st.sampled_from([1, size])) for size in shape]
    lambda_shape = lambda_shape[data.draw(st.integers(0, len(shape))) :]
    x = torch.randn(shape, dtype=torch.float64).requires_grad_()
    lambd = torch.rand(lambda_shape, dtype=torch.float64).requires_grad_()
    full = lambd.detach().expand(shape).clone().requires_grad_()
    weight = torch.randn(shape, dtype=torch.float64)
    result, expected = case(x, lambd), case(x, full)
    assert result.equal(expected)
    got = torch.autograd.grad((result * weight).sum(), [x, lambd])
    want = torch.autograd.grad((expected * weight).sum(), [x, full])
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(got[1], want[1].sum_to_size(lambda_shape))


@thresholds
def test_low_precision_sums_the_gradient_of_the_threshold_in_float32(case):
    x = torch.full((4096,), LAMBDA + 0.01, dtype=torch.bfloat16)
    lambd = torch.tensor(LAMBDA, requires_grad=True)
    single = case(x[:1], lambd).float().sum()
    (one,) = torch.autograd.grad(single, lambd)
    (all_of_them,) = torch.autograd.grad(case(x, lambd).float().sum(), lambd)
    assert one != 0
    torch.testing.assert_close(all_of_them, 4096 * one, rtol=0.01, atol=0)


@thresholds
@pytest.mark.parametrize("zero_other", [False, True])
def test_mask_chooses_where_it_acts(case, zero_other):
    x = torch.randn(6, 5, requires_grad=True)
    mask = torch.rand(6, 5) > 0.5
    result = case(x, 0.5, mask=mask, zero_other=zero_other)
    other = torch.zeros_like(x) if zero_other else x
    assert result.equal(torch.where(mask, case(x, 0.5), other))
    (grad,) = torch.autograd.grad(result.sum(), x)
    assert (grad[~mask] == (0.0 if zero_other else 1.0)).all()


@thresholds
def test_mask_must_be_boolean_and_fit(case):
    with pytest.raises(TypeError, match="mask= must be a boolean tensor"):
        case(torch.ones(3), 0.5, mask=torch.ones(3))
    with pytest.raises(ValueError, match="mask= of shape"):
        case(torch.ones(3), 0.5, mask=torch.ones(2, dtype=torch.bool))


@thresholds
@pytest.mark.parametrize("zero_other", [False, True])
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_sides_choose_where_it_acts(case, side, zero_other):
    if not case.takes_sides:
        pytest.skip("one-sided by definition")
    x = torch.tensor([-2.0, -0.3, 0.3, 2.0, math.nan])
    acts = torch.tensor([side == "negative"] * 2 + [side == "positive"] * 2 + [True])
    other = torch.zeros_like(x) if zero_other else x
    expected = torch.where(acts, case(x, 0.5), other)
    result = case(x, 0.5, sides=side, zero_other=zero_other)
    torch.testing.assert_close(result, expected, equal_nan=True)


@thresholds
def test_unknown_side(case):
    if not case.takes_sides:
        pytest.skip("one-sided by definition")
    with pytest.raises(ValueError, match="sides= must be"):
        case(torch.ones(3), 0.5, sides="left")


@functions
@pytest.mark.versions
def test_compiled_equals_eager(case):
    torch._dynamo.reset()
    x = torch.randn(4, 33, requires_grad=True)
    compiled = torch.compile(lambda x: call(case, x), fullgraph=True)
    torch.testing.assert_close(compiled(x), call(case, x))
    (got,) = torch.autograd.grad(compiled(x).square().sum(), x)
    (want,) = torch.autograd.grad(call(case, x).square().sum(), x)
    torch.testing.assert_close(got, want)
    special = kinks(torch.float32).reshape(1, -1)
    torch.testing.assert_close(compiled(special), call(case, special), equal_nan=True)


@thresholds
@pytest.mark.versions
def test_compiled_with_a_learned_threshold_in_bfloat16(case):
    torch._dynamo.reset()
    x = kinks(torch.bfloat16, 1000)
    x = x[x.isfinite() & (x.abs() < 1e4)].requires_grad_()
    lambd = torch.tensor(LAMBDA, requires_grad=True)
    compiled = torch.compile(case, fullgraph=True)
    got, want = compiled(x, lambd), case(x, lambd)
    torch.testing.assert_close(got, want)
    for a, b in zip(
        torch.autograd.grad(got.sum(), [x, lambd]),
        torch.autograd.grad(want.sum(), [x, lambd]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)


@functions
@pytest.mark.versions
def test_vmap_and_grad_of_torch_func(case):
    x = torch.randn(3, 9)
    mapped = torch.func.vmap(lambda row: call(case, row))(x)
    torch.testing.assert_close(mapped, torch.stack([call(case, row) for row in x]))
    gradient = torch.func.grad(lambda x: call(case, x).square().sum())(x)
    leaf = x.clone().requires_grad_()
    call(case, leaf).square().sum().backward()
    torch.testing.assert_close(gradient, leaf.grad)


@thresholds
@pytest.mark.versions
def test_vmap_over_the_threshold(case):
    x, lambd = torch.randn(9), torch.rand(3)
    mapped = torch.func.vmap(lambda t: case(x, t))(lambd)
    torch.testing.assert_close(mapped, torch.stack([case(x, t) for t in lambd]))


@pytest.mark.parametrize("case", [case for case in THRESHOLDS if case.saves_output], ids=by_name)
def test_backward_keeps_only_the_output(case: ThresholdCase):
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = case(x, 0.3)
    assert [tensor.data_ptr() for tensor in saved] == [result.data_ptr()]
