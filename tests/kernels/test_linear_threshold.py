import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsact.kernels import Entries, csr_linear, linear_threshold
from sparsact.kernels.cpu import linear_threshold as compiled
from sparsact.kernels.reference import selection_reference as reference

DTYPES = [torch.float32, torch.bfloat16]
ALL_DTYPES = [*DTYPES, torch.float16, torch.float64]


@contextlib.contextmanager
def torch_threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def small_integers(generator, *shape):
    """Their products are exact in any order of summation, and many equal a level."""
    return torch.randint(-2, 3, shape, generator=generator)


def dense(entries, features):
    matrix = torch.zeros(len(entries.offsets) - 1, features, dtype=entries.values.dtype)
    rows = torch.repeat_interleave(entries.offsets.diff())
    matrix[rows, entries.columns] = entries.values
    return matrix


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    threads=st.sampled_from([1, 2]),
    rows=st.integers(0, 9),
    features=st.integers(0, 80),
    width=st.integers(0, 6),
    by=st.sampled_from(["value", "magnitude"]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_equals_the_reference(dtype, threads, rows, features, width, by, with_bias, seed):
    generator = torch.Generator().manual_seed(seed)
    x = small_integers(generator, rows, width).to(dtype)
    weight = small_integers(generator, features, width).to(dtype)
    bias = small_integers(generator, features).to(dtype) if with_bias else None
    level = small_integers(generator, features).float()
    level = level.abs() if by == "magnitude" else level
    lower = -level if by == "magnitude" else torch.full_like(level, -math.inf)
    operands = (x, weight, bias, lower, level)
    with torch_threads(threads):
        actual = linear_threshold(x, weight, bias, level, by=by)
        in_small_blocks = compiled.linear_threshold(*operands, least_rows=4, buffer_size=44)
    expected = reference.linear_threshold(*operands)
    for result in (actual, in_small_blocks):
        assert all(torch.equal(one, other) for one, other in zip(result, expected, strict=True))
    assert actual.values.dtype == in_small_blocks[0].dtype == dtype


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_equals_the_full_product_where_it_passes(dtype, by):
    inputs = torch.randn(33, 20), torch.randn(300, 20), torch.randn(300)
    x, weight, bias = (tensor.to(dtype) for tensor in inputs)
    wide = torch.promote_types(dtype, torch.float32)
    scores = F.linear(x.to(wide), weight.to(wide), bias.to(wide))
    actual = dense(linear_threshold(x, weight, bias, 4.0, by=by), 300)
    passed = (scores.abs() if by == "magnitude" else scores) > 4.0
    close = {"rtol": 1e-5, "atol": 1e-5} if wide == dtype else {}
    torch.testing.assert_close(actual, torch.where(passed, scores, 0).to(dtype), **close)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_nan_passes_and_the_level_does_not(dtype):
    nan, inf = float("nan"), float("inf")
    weight = torch.tensor([0.0, -inf, 0.5, nan, inf, 0.75, -0.75], dtype=dtype)[:, None]
    one = torch.ones(1, 1, dtype=dtype)
    assert linear_threshold(one, weight, None, 0.5).columns.tolist() == [3, 4, 5]
    assert linear_threshold(one, weight, None, 0.5, by="magnitude").columns.tolist() == [
        *(1, 3, 4, 5, 6),
    ]
    assert linear_threshold(one, weight, None, -0.5).columns.tolist() == [0, 2, 3, 4, 5]


def test_level_is_not_rounded_to_bfloat16():
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    assert len(linear_threshold(one, one, None, 0.999).values) == 1
    assert len(linear_threshold(one, one, None, 1.001).values) == 0


def test_memory_stays_below_the_product():
    """The largest temporary tensor is the buffer."""
    x, weight = torch.randn(2048, 4), torch.randn(2**14, 4)
    with torch.profiler.profile(profile_memory=True) as profile:
        linear_threshold(x, weight, None, 9.0)
    greatest = max(event.cpu_memory_usage for event in profile.events())
    assert greatest <= 4 * 2048 * 2**14 / 8


@pytest.mark.parametrize("by", ["value", "magnitude"])
def test_gradients(by):
    x, weight, bias = torch.randn(5, 3), torch.randn(11, 3), torch.randn(11)
    inputs = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]

    def function(x, weight, bias):
        return linear_threshold(x, weight, bias, 0.7, by=by).values

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_equal_those_of_the_dense_layer(dtype):
    inputs = torch.randn(20, 13), torch.randn(50, 13), torch.randn(50)
    inputs = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    entries = linear_threshold(*inputs, 1.0)
    actual = torch.autograd.grad(entries.values.float().square().sum(), inputs)
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    product = F.linear(*wide)
    at = torch.repeat_interleave(entries.offsets.diff()) * 50 + entries.columns
    expected = torch.autograd.grad(product.flatten()[at].square().sum(), wide)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    for ours, theirs in zip(actual, expected, strict=True):
        size = float(theirs.abs().max())
        assert torch.allclose(ours.float(), theirs, rtol=tolerance, atol=tolerance * size)


def test_a_thresholded_layer_and_its_decoder_learn_as_dense_ones():
    x, weight = torch.randn(30, 8), torch.randn(40, 8, requires_grad=True)
    loss = csr_linear(linear_threshold(x, weight, None, 2.0), weight).square().sum()
    (actual,) = torch.autograd.grad(loss, weight)
    product = x @ weight.T
    kept = torch.where(product > 2.0, product, 0.0)
    (expected,) = torch.autograd.grad((kept @ weight).square().sum(), weight)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::2], lambda x: x.flip(1)])
def test_strided_inputs_are_copied(view):
    generator = torch.Generator().manual_seed(0)
    x, weight = (view(small_integers(generator, 16, 16).float()) for _ in range(2))
    bias = small_integers(generator, 2 * len(weight)).float()[::2]
    expected = linear_threshold(x.contiguous(), weight.contiguous(), bias.contiguous(), 3)
    actual = linear_threshold(x, weight, bias, 3)
    assert all(torch.equal(one, two) for one, two in zip(actual, expected, strict=True))


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.versions
def test_opcheck(dtype):
    inputs = torch.randn(5, 4), torch.randn(9, 4), torch.randn(9)
    x, weight, bias = (tensor.to(dtype).requires_grad_() for tensor in inputs)
    wide = torch.promote_types(dtype, torch.float32)
    band = torch.full((9,), -0.5, dtype=wide), torch.full((9,), 0.5, dtype=wide)
    for optional_bias in (bias, None):
        operands = (x, weight, optional_bias, *band)
        torch.library.opcheck(torch.ops.sparsact.linear_threshold, operands)


X, WEIGHT, BIAS = torch.ones(2, 3), torch.ones(5, 3), torch.ones(5)


@pytest.mark.parametrize(
    ("x", "weight", "bias", "threshold", "error", "message"),
    [
        (X[0], WEIGHT, BIAS, 0.0, ValueError, "x must have 2 dims"),
        (X.int(), WEIGHT, BIAS, 0.0, TypeError, "x must be a floating-point"),
        (X, WEIGHT[:, :2], BIAS, 0.0, ValueError, r"weight must be of shape \(5, 3\)"),
        (X, WEIGHT.bfloat16(), BIAS, 0.0, TypeError, "weight is torch.bfloat16"),
        (X, WEIGHT, BIAS[:3], 0.0, ValueError, r"bias must be of shape \(5,\)"),
        (X, WEIGHT, BIAS, math.inf, ValueError, "threshold must be finite, got inf"),
        (X, WEIGHT, BIAS, math.nan, ValueError, "threshold must be finite, got nan"),
        (X, WEIGHT, BIAS, torch.ones(3), ValueError, r"of shape \(5,\)"),
        (X, WEIGHT, BIAS, torch.ones(5).int(), TypeError, "threshold must be floating point"),
    ],
)
def test_wrong_arguments(x, weight, bias, threshold, error, message):
    with pytest.raises(error, match=message):
        linear_threshold(x, weight, bias, threshold)


def test_a_magnitude_has_no_negative_level():
    with pytest.raises(ValueError, match="finite and at least 0, got -1"):
        linear_threshold(X, WEIGHT, BIAS, -1.0, by="magnitude")
    with pytest.raises(ValueError, match="'value' or 'magnitude', got 'size'"):
        linear_threshold(X, WEIGHT, BIAS, 1.0, by="size")


VALUES, OFFSETS, COLUMNS = torch.ones(2), torch.tensor([0, 1, 2]), torch.tensor([0, 4])


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ((VALUES.int(), OFFSETS, COLUMNS), TypeError, "values must be floating point"),
        ((VALUES[None], OFFSETS, COLUMNS), ValueError, "one dim"),
        ((VALUES, OFFSETS[:0], COLUMNS), ValueError, "at least one entry"),
        ((VALUES, OFFSETS, COLUMNS.float()), TypeError, "indices must be int32 or int64"),
        ((VALUES, OFFSETS.to("meta"), COLUMNS), ValueError, "indices on meta"),
        ((VALUES, OFFSETS, COLUMNS + 1), IndexError, "from 1 to 5"),
        ((VALUES, OFFSETS.flip(0), COLUMNS), ValueError, "ascend"),
        ((VALUES[:1], OFFSETS, COLUMNS), ValueError, "1 values and 2 indices"),
    ],
)
def test_wrong_entries(entries, error, message):
    with pytest.raises(error, match=message):
        csr_linear(Entries(*entries), WEIGHT)
