import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsact.kernels import gather_linear, gather_linear_shared
from sparsact.kernels.cpu import gather as compiled
from sparsact.kernels.gather_dense import dense
from sparsact.kernels.reference import gather_reference as reference

SLICE = 8192  # outputs that one slice holds in C++
INF, NAN = float("inf"), float("nan")
X_DTYPES = [torch.float32, torch.bfloat16]
WEIGHT_DTYPES = [torch.float32, torch.bfloat16, torch.int8, torch.uint8]  # the last of 4 bits


@pytest.fixture(params=[1, 2], ids=["serial", "threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def weight(inputs, outputs, dtype):
    if dtype == torch.int8:
        return torch.randint(-127, 128, (inputs, outputs)).to(dtype)
    if dtype == torch.uint8:
        blocks = -(-outputs // 32)
        scales = torch.stack([torch.rand(inputs, blocks), torch.randn(inputs, blocks)], -1)
        bits = torch.randint(0, 256, (inputs, blocks, 16), dtype=torch.uint8)
        return torch.cat([scales.bfloat16().view(torch.uint8), bits], -1).flatten(1)
    return torch.randn(inputs, outputs).to(dtype)


def scale_for(weight_t, outputs):
    is_whole = weight_t.dtype in (torch.int8, torch.uint8)
    return torch.rand(outputs) + 0.5 if is_whole else None


def unpacked(rows, outputs):
    """Weights of 4 bits, as the format says it for each output."""
    output = np.arange(outputs)
    k, half, j = output % 32 // 8, output % 8 // 4, output % 4
    blocks = rows.numpy().reshape(len(rows), -(-outputs // 32), 20)[:, output // 32]
    scale, minimum = np.moveaxis(blocks[..., :4].copy().view("<u2").astype("<u4") << 16, -1, 0)
    words = np.take_along_axis(blocks[..., 4:].copy().view("<u4"), j[None, :, None], 2)[..., 0]
    codes = words >> (16 * half + 4 * k).astype("<u4") & 15
    wide = scale.copy().view("<f4").astype("f8") * codes + minimum.copy().view("<f4")
    return torch.from_numpy(wide)


def expected(x, weight_t, threshold, bias=None, scale=None):
    """The result in float64, rounded once, and the scale of the error of float32 sums."""
    level = torch.as_tensor(threshold).float()
    kept = torch.where(x.float().abs() <= level, 0, x.double())
    is_packed = weight_t.dtype == torch.uint8
    wide = unpacked(weight_t, len(scale)) if is_packed else weight_t.double()
    wide = wide if scale is None else wide * scale
    y = kept @ wide + (0 if bias is None else bias.double())
    size = kept.abs() @ wide.abs() + (0 if bias is None else bias.abs().double())
    return y, size


def assert_close(actual, x, weight_t, threshold, bias=None, scale=None):
    y, size = expected(x, weight_t, threshold, bias, scale)
    assert actual.dtype == x.dtype
    assert actual.shape == y.shape
    error = (actual.double() - y).abs()
    rounding = y.abs() * 2**-8 if x.dtype == torch.bfloat16 else 0
    assert (error <= 1e-5 * size + rounding).all()


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("x_dtype", X_DTYPES, ids=str)
@given(
    rows=st.integers(0, 9),
    inputs=st.integers(0, 40),
    outputs=st.integers(0, 70),
    per_input=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size(x_dtype, weight_dtype, rows, inputs, outputs, per_input, seed):
    torch.manual_seed(seed)
    x, weight_t = torch.randn(rows, inputs).to(x_dtype), weight(inputs, outputs, weight_dtype)
    threshold = torch.rand(inputs) if per_input else 0.5
    bias, scale = torch.randn(outputs), scale_for(weight_t, outputs)
    actual = gather_linear(x, weight_t, threshold, bias, scale=scale)
    assert_close(actual, x, weight_t, threshold, bias, scale)


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 4, 7, compiled.ROWS_AT_MOST, compiled.ROWS_AT_MOST + 1])
def test_sizes_beyond_one_slice(threads, rows, weight_dtype):
    outputs = 2 * SLICE + 77
    x, weight_t = torch.randn(rows, 130), weight(130, outputs, weight_dtype)
    bias, scale = torch.randn(outputs), scale_for(weight_t, outputs)
    actual = gather_linear(x, weight_t, 0.7, bias, scale=scale)
    assert_close(actual, x, weight_t, 0.7, bias, scale)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("widths", [(64, 64), (5, 40, 33), (100, 31, 1, 200)], ids=str)
def test_blocks_of_4_bits_across_threads_and_weights(threads, rows, widths):
    x = torch.randn(rows, 300)
    weights_t = [weight(300, width, torch.uint8) for width in widths]
    scales = [scale_for(w, width) for w, width in zip(weights_t, widths, strict=True)]
    actual = gather_linear_shared(x, weights_t, 0.5, scales=scales)
    for y, weight_t, scale in zip(actual, weights_t, scales, strict=True):
        assert_close(y, x, weight_t, 0.5, None, scale)


@pytest.mark.parametrize("weight_dtype", [torch.int8, torch.uint8], ids=str)
def test_the_reference_reads_every_dtype(weight_dtype):
    x, weight_t = torch.randn(3, 20), weight(20, 70, weight_dtype)
    scale = scale_for(weight_t, 70)
    (y,) = reference.gather_linear(x, [weight_t], torch.tensor(0.5), [None], [scale], 20)
    assert_close(y, x, weight_t, 0.5, None, scale)


@pytest.mark.parametrize("rows", [1, 3, 80])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 99.0], ids=["all active", "half", "none active"])
def test_equals_the_reference(threads, rows, threshold):
    x, weight_t = torch.randn(rows, 300).bfloat16(), torch.randn(300, 500).bfloat16()
    arguments = (x, [weight_t], torch.tensor(threshold), [None], [None], 300)
    (actual,) = torch.ops.sparsact.gather_linear(*arguments)
    (expected_output,) = reference.gather_linear(*arguments)
    torch.testing.assert_close(actual, expected_output, rtol=2**-7, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 4])
def test_weights_of_inactive_inputs_have_no_effect(rows):
    x = torch.tensor([1.0, 0.4, -0.5, -2.0]).expand(rows, 4)
    weight_t = torch.tensor([[1.0], [100.0], [100.0], [10.0]])
    assert gather_linear(x, weight_t, 0.5).flatten().tolist() == [-19.0] * rows


def test_each_row_is_thresholded_separately():
    x = torch.tensor([[1.0, 0.1], [0.1, 1.0], [0.1, 0.1]])
    assert torch.equal(
        gather_linear(x, torch.eye(2), 0.5), torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    )


@pytest.mark.parametrize("rows", [1, 3, 80])
def test_nan_and_inf_are_active(threads, rows):
    x = torch.tensor([0.1, NAN, INF, -INF, 1.0]).repeat(rows, 1)
    actual = gather_linear(x, torch.zeros(5, 1), 0.5)
    assert actual.isnan().all()  # as the dense product: 0 · NaN
    actual = gather_linear(x[:, [0, 2, 4]], torch.ones(3, 70), 0.5)
    assert torch.equal(actual, torch.full((rows, 70), INF))


def test_threshold_is_not_rounded_to_bfloat16():
    x, weight_t = torch.ones(1, 1).bfloat16(), torch.ones(1, 1)
    assert gather_linear(x, weight_t, 0.999).item() == 1
    assert gather_linear(x, weight_t, 1.001).item() == 0


def test_leading_dims():
    x, weight_t = torch.randn(2, 3, 7), torch.randn(7, 5)
    actual = gather_linear(x, weight_t, 0.3)
    assert torch.equal(actual, gather_linear(x.view(6, 7), weight_t, 0.3).view(2, 3, 5))
    assert gather_linear(x[0, 0], weight_t, 0.3).shape == (5,)


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::2, 1::2], lambda x: x.flip(1)])
def test_strided_inputs_are_copied(view):
    x = view(torch.randn(8, 8))
    weight_t = torch.randn(x.shape[1], 5)
    bias, threshold = torch.randn(10)[::2], torch.rand(2 * x.shape[1])[::2]
    actual = gather_linear(x, weight_t, threshold, bias)
    assert torch.equal(
        actual, gather_linear(x.contiguous(), weight_t, threshold.clone(), bias.clone())
    )


def test_nothing_is_changed_in_place():
    x, weight_t, bias = torch.randn(80, 6), torch.randn(6, 5), torch.randn(5)
    before = [tensor.clone() for tensor in (x, weight_t, bias)]
    for rows in (1, 4, 80):
        gather_linear(x[:rows], weight_t, 0.5, bias)
    assert all(map(torch.equal, (x, weight_t, bias), before))


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 5, 80])
def test_shared_input(threads, dtype, rows):
    x = torch.randn(rows, 200)
    widths = (300, 1, 0, 450)
    weights_t = [weight(200, width, dtype) for width in widths]
    biases = [None, torch.randn(1), torch.randn(0), torch.randn(450)]
    scales = [scale_for(w, width) for w, width in zip(weights_t, widths, strict=True)]
    actual = gather_linear_shared(x, weights_t, 0.4, biases, scales=scales)
    for y, weight_t, bias, scale in zip(actual, weights_t, biases, scales, strict=True):
        assert_close(y, x, weight_t, 0.4, bias, scale)


@pytest.mark.parametrize("rows", [1, 4])
def test_more_active_inputs_than_allowed_use_the_dense_product(rows):
    x = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(rows, 1)
    operands = ([torch.ones(4, 2)], torch.tensor(0.5), [None], [None])
    for inputs_at_most, is_dense in ((3, False), (2, True)):
        (y,) = torch.ops.sparsact.gather_linear(x, *operands, inputs_at_most)
        assert torch.equal(y, torch.full((rows, 2), 3.0))
        outputs = compiled.Product(*operands).skipping(x, inputs_at_most)
        assert (outputs is None) == is_dense


@pytest.mark.parametrize("x_dtype", X_DTYPES, ids=str)
@pytest.mark.parametrize("units", [False, True])
def test_dense_with_and_without_bfloat16_units(x_dtype, units):
    x, weight_t = torch.randn(70, 20).to(x_dtype), torch.randn(20, 30).bfloat16()
    bias = torch.randn(30)
    y, size = expected(x, weight_t, 0.5, bias)
    operands = (x, [weight_t], torch.tensor(0.5), [bias], [None])
    several_blocks = 7 * 30  # and a rest
    (actual,) = dense(*operands, bfloat16_units=units, block=several_blocks)
    rounding = 0 if x_dtype == torch.float32 else 2**-7  # twice: the product's and the output's
    assert ((actual.double() - y).abs() <= (1e-5 + rounding) * size).all()
    in_one_block = gather_linear(x, weight_t, 0.5, bias)  # as many rows always use it
    assert ((in_one_block.double() - y).abs() <= (1e-5 + rounding) * size).all()


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("per_input", [False, True])
@pytest.mark.versions
def test_opcheck(dtype, per_input):
    weight_t = weight(6, 5, dtype)
    threshold = torch.rand(6) if per_input else torch.tensor(0.5)
    scales = [scale_for(weight_t, 5)] * 2
    arguments = (
        torch.randn(3, 6),
        [weight_t, weight_t],
        threshold,
        [None, torch.ones(5)],
        scales,
        6,
    )
    torch.library.opcheck(torch.ops.sparsact.gather_linear, arguments)


@pytest.mark.versions
def test_compiles_in_one_graph():
    weight_t, bias = torch.randn(20, 30), torch.randn(30)

    def function(x):
        return gather_linear(x * 2, weight_t, 0.5, bias).relu()

    x = torch.randn(2, 20)
    actual = torch.compile(function, fullgraph=True)(x)
    torch.testing.assert_close(actual, function(x))


def test_a_gradient_is_rejected():
    x, weight_t = torch.randn(2, 3, requires_grad=True), torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="for inference"):
        gather_linear(x, weight_t, 0.5)
    with pytest.raises(RuntimeError, match="no_grad"):
        gather_linear_shared(x.detach(), [weight_t], 0.5, [torch.zeros(4, requires_grad=True)])
    with torch.no_grad():
        assert not gather_linear(x, weight_t, 0.5).requires_grad


GOOD = {
    "x": torch.ones(2, 3),
    "weight_t": torch.ones(3, 4),
    "threshold": 0.5,
    "bias": torch.ones(4),
    "scale": torch.ones(4),
}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.ones(2, 4)}, ValueError, r"\(4, outputs\)"),
        ({"x": torch.tensor(1.0)}, ValueError, "last dim"),
        ({"x": torch.ones(2, 3).half()}, TypeError, "float32 or bfloat16"),
        ({"x": torch.ones(2, 3, device="meta")}, ValueError, "meta"),
        ({"weight_t": torch.ones(3)}, ValueError, "transpose"),
        ({"weight_t": torch.ones(4, 3).T}, ValueError, "contiguous"),
        ({"weight_t": torch.ones(3, 4).double()}, TypeError, "int8"),
        ({"weight_t": torch.ones(3, 4).to(torch.int8), "scale": None}, ValueError, "scale"),
        ({"weight_t": torch.ones(3, 20).to(torch.uint8), "scale": None}, ValueError, "4-bit"),
        ({"weight_t": torch.ones(3, 21).to(torch.uint8)}, ValueError, "rows of 20 bytes, got 21"),
        (
            {"weight_t": torch.ones(3, 20).to(torch.uint8), "scale": torch.ones(33), "bias": None},
            ValueError,
            "rows of 40 bytes",
        ),
        (
            {"weight_t": torch.ones(3, 20).to(torch.uint8), "scale": torch.ones(())},
            ValueError,
            "scale must be of shape",
        ),
        ({"weight_t": torch.ones(3, 4, device="meta")}, ValueError, "meta"),
        ({"threshold": -0.1}, ValueError, "at least 0"),
        ({"threshold": NAN}, ValueError, "finite"),
        ({"threshold": torch.ones(4)}, ValueError, r"\(3,\)"),
        ({"threshold": torch.ones(3, 1)}, ValueError, r"\(3,\)"),
        ({"threshold": torch.ones(3).int()}, TypeError, "floating point"),
        ({"bias": torch.ones(3)}, ValueError, r"bias must be of shape \(4,\)"),
        ({"bias": torch.ones(4, device="meta")}, ValueError, "bias is on meta"),
        ({"scale": torch.ones(())}, ValueError, r"scale must be of shape \(4,\)"),
    ],
)
def test_wrong_arguments(wrong, error, message):
    gather_linear(**GOOD)
    with pytest.raises(error, match=message):
        gather_linear(**{**GOOD, **wrong})


def test_wrong_lists():
    x, weight_t = torch.ones(2, 3), torch.ones(3, 4)
    with pytest.raises(ValueError, match="at least one"):
        gather_linear_shared(x, [], 0.5)
    with pytest.raises(ValueError, match="2 weights, 1 biases"):
        gather_linear_shared(x, [weight_t, weight_t], 0.5, [None])
    with pytest.raises(TypeError, match="all of one dtype"):
        gather_linear_shared(x, [weight_t, weight_t.bfloat16()], 0.5)
