import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsact.kernels import csr_linear, linear_topk
from sparsact.kernels.cpu import linear_topk as compiled
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


WITH_AND_WITHOUT_UNITS = pytest.mark.parametrize(
    "units", [True, False], ids=["with units", "without units"]
)


def in_small_blocks(x, weight, bias, k, select, units=None):
    """`linear_topk` on several blocks, 4 rows and 11 features at a time, where it is compiled."""
    if x.dtype not in DTYPES:
        return linear_topk(x, weight, bias, k, select_dtype=select)
    blocks = {"row_block": 4, "buffer_size": 44}
    return compiled.linear_topk(x, weight, bias, k, select, **blocks, bfloat16_units=units)


def small_integers(generator, *shape):
    """Their products are exact in any order of summation, and full of ties."""
    return torch.randint(-2, 3, shape, generator=generator)


@WITH_AND_WITHOUT_UNITS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    threads=st.sampled_from([1, 2]),
    rows=st.integers(0, 9),
    features=st.integers(0, 40),
    width=st.integers(0, 6),
    share=st.floats(0, 1),
    select=st.sampled_from([None, torch.bfloat16]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_ties_and_order_are_the_references(
    dtype, units, threads, rows, features, width, share, select, with_bias, seed
):
    generator = torch.Generator().manual_seed(seed)
    x = small_integers(generator, rows, width).to(dtype)
    weight = small_integers(generator, features, width).to(dtype)
    bias = small_integers(generator, features).to(dtype) if with_bias else None
    k = round(share * features)
    with torch_threads(threads):
        values, indices = in_small_blocks(x, weight, bias, k, select, units)
    expected = reference.linear_topk(x, weight, bias, k, select)
    assert torch.equal(values, expected[0])
    assert torch.equal(indices, expected[1])
    assert values.dtype == dtype
    assert values.is_contiguous()


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 7, 300])
def test_equals_topk_of_the_full_product(dtype, k):
    x, weight, bias = torch.randn(33, 20), torch.randn(300, 20), torch.randn(300)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    scores = F.linear(x.to(wide), weight.to(wide), bias.to(wide))
    expected, _ = torch.topk(scores, k)
    values, indices = linear_topk(x, weight, bias, k)
    close = {"rtol": 1e-5, "atol": 1e-5} if wide == dtype else {}
    torch.testing.assert_close(values, expected.to(dtype), **close)
    torch.testing.assert_close(scores.gather(1, indices), expected, rtol=1e-5, atol=1e-5)
    assert all(len(row.unique()) == k for row in indices)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("select", [None, torch.bfloat16])
def test_nan_comes_first_and_infinities_have_their_places(dtype, select):
    nan, inf = float("nan"), float("inf")
    scores = [0.0, -inf, 3.0, nan, -0.0, inf, nan, 0.0, -1.0, *[-inf] * 8]
    weight = torch.tensor(scores, dtype=dtype)[:, None]
    one = torch.ones(1, 1, dtype=dtype)
    values, indices = in_small_blocks(one, weight, None, len(scores), select)
    assert indices.tolist() == [[3, 6, 5, 2, 0, 4, 7, 8, 1, *range(9, 17)]]
    expected = torch.tensor([nan, nan, inf, 3, 0, 0, 0, -1, *[-inf] * 9], dtype=dtype)
    assert torch.equal(values[0].nan_to_num(9), expected.nan_to_num(9))
    assert torch.equal(values[0].isnan(), expected.isnan())


@WITH_AND_WITHOUT_UNITS
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_selection_in_bfloat16(dtype, units):
    x, weight, bias = torch.randn(40, 30), torch.randn(500, 30), torch.randn(500)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    scores = F.linear(x.to(wide), weight.to(wide), bias.to(wide))
    values, indices = in_small_blocks(x, weight, bias, 9, torch.bfloat16, units)
    exact = scores.gather(1, indices)
    close = {"rtol": 1e-5, "atol": 1e-5} if wide == dtype else {}
    torch.testing.assert_close(values, exact.to(dtype), **close)
    assert (values.diff(dim=1) <= 0).all()
    assert all(len(row.unique()) == 9 for row in indices)
    # both of two swapped entries have this error: the factors and the product have 8 bits
    slack = 2 * 3 * 2**-9 * (x.to(wide).abs() @ weight.to(wide).abs().T).max()
    assert (exact[:, -1] >= torch.topk(scores, 9).values[:, -1] - slack).all()


def test_memory_stays_below_the_product():
    """The largest temporary tensor is the buffer, for any number of features."""
    x, weight = torch.randn(300, 4), torch.randn(2**16, 4)
    with torch.profiler.profile(profile_memory=True) as profile:
        linear_topk(x, weight, None, 3)
    greatest = max(event.cpu_memory_usage for event in profile.events())
    assert greatest < 4 * 300 * 2**16 / 4


@pytest.mark.parametrize("select", [None, torch.bfloat16])
def test_gradients(select):
    x, weight, bias = torch.randn(5, 3), torch.randn(11, 3), torch.randn(11)
    inputs = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]

    def function(x, weight, bias):
        return linear_topk(x, weight, bias, 4, select_dtype=select)[0]

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [0, 6, 50])
def test_gradients_equal_those_of_the_dense_product(dtype, k):
    inputs = torch.randn(20, 13), torch.randn(50, 13), torch.randn(50)
    inputs = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    values, indices = linear_topk(*inputs, k)
    grad = torch.randn(20, k).to(dtype)
    actual = torch.autograd.grad(values, inputs, grad)
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    expected = torch.autograd.grad(F.linear(*wide).gather(1, indices), wide, grad.float())
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(dtype), **close)


def test_gradient_has_the_same_bits_for_any_number_of_threads():
    inputs = torch.randn(50, 13), torch.randn(40, 13), torch.randn(40)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    values, _ = linear_topk(*inputs, 20)
    actual = []
    for threads in (1, 2):
        with torch_threads(threads):
            actual.append(torch.autograd.grad(values.sum(), inputs, retain_graph=True))
    assert all(torch.equal(one, two) for one, two in zip(*actual, strict=True))


def test_a_sparse_autoencoder_trains():
    torch.manual_seed(0)
    data = torch.randn(64, 5) @ torch.randn(5, 16)
    encoder, decoder = torch.nn.Linear(16, 40), torch.nn.Linear(40, 16)
    weight_t = torch.nn.Parameter(decoder.weight.detach().T.contiguous())
    parameters = [*encoder.parameters(), weight_t, decoder.bias]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    losses = []
    for _ in range(100):
        activations = linear_topk(data, encoder.weight, encoder.bias, 4)
        loss = F.mse_loss(csr_linear(activations, weight_t, decoder.bias), data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::2], lambda x: x.flip(1)])
def test_strided_inputs_are_copied(view):
    generator = torch.Generator().manual_seed(0)
    x, weight = (view(small_integers(generator, 16, 16).float()) for _ in range(2))
    bias = small_integers(generator, 2 * len(weight)).float()[::2]
    expected = linear_topk(x.contiguous(), weight.contiguous(), bias.contiguous(), 5)
    for select in (None, torch.bfloat16):
        actual = linear_topk(x, weight, bias, 5, select_dtype=select)
        assert all(torch.equal(one, two) for one, two in zip(actual, expected, strict=True))


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("select", [None, torch.bfloat16])
@pytest.mark.versions
def test_opcheck(dtype, select):
    inputs = torch.randn(5, 4), torch.randn(9, 4), torch.randn(9)
    x, weight, bias = (tensor.to(dtype).requires_grad_() for tensor in inputs)
    for optional_bias in (bias, None):
        arguments = (x, weight, optional_bias, 3, select)
        torch.library.opcheck(torch.ops.sparsact.linear_topk, arguments)


@pytest.mark.versions
def test_under_compile():
    x, weight = torch.randn(6, 4, requires_grad=True), torch.randn(20, 4, requires_grad=True)

    def loss(x, weight):
        return csr_linear(linear_topk(x, weight, None, 3), weight).square().sum()

    expected = torch.autograd.grad(loss(x, weight), (x, weight))
    actual = torch.autograd.grad(torch.compile(loss, fullgraph=True)(x, weight), (x, weight))
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


X, WEIGHT, BIAS = torch.ones(2, 3), torch.ones(5, 3), torch.ones(5)


@pytest.mark.parametrize(
    ("x", "weight", "bias", "k", "error", "message"),
    [
        (X[0], WEIGHT, BIAS, 1, ValueError, "x must have 2 dims"),
        (X.int(), WEIGHT, BIAS, 1, TypeError, "x must be a floating-point"),
        (X, WEIGHT[0], BIAS, 1, ValueError, "weight must have 2 dims"),
        (X, WEIGHT[:, :2], BIAS, 1, ValueError, r"weight must be of shape \(5, 3\)"),
        (X, WEIGHT.bfloat16(), BIAS, 1, TypeError, "weight is torch.bfloat16"),
        (X, WEIGHT.to("meta"), BIAS, 1, ValueError, "weight is on meta"),
        (X, WEIGHT, BIAS[:3], 1, ValueError, r"bias must be of shape \(5,\)"),
        (X, WEIGHT, BIAS.half(), 1, TypeError, "bias is torch.float16"),
        (X, WEIGHT, BIAS, 6, ValueError, "k must lie in 0 … 5"),
        (X.to_sparse_csr(), WEIGHT, BIAS, 1, ValueError, "x must be a dense tensor"),
        (X, WEIGHT, BIAS, 2.0, TypeError, "k must be an integer, got 2.0"),
        (X, WEIGHT, BIAS, -1, ValueError, "k must lie in 0 … 5"),
    ],
)
def test_wrong_arguments(x, weight, bias, k, error, message):
    with pytest.raises(error, match=message):
        linear_topk(x, weight, bias, k)


def test_other_selection_dtypes_are_rejected():
    with pytest.raises(TypeError, match=r"bfloat16 or None, got .*float16"):
        linear_topk(X, WEIGHT, BIAS, 1, select_dtype=torch.float16)
