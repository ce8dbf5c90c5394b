import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsact.kernels import csr_linear, threshold_compress
from sparsact.kernels.reference import csr_reference as reference

OPS = torch.ops.sparsact
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {}}


@contextlib.contextmanager
def torch_threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_structure(rows, features, most, generator, dtype=torch.int64):
    """Offsets and indices of rows with 0 … `most` entries, unsorted and partly repeated."""
    counts = torch.randint(0, most + 1, (rows,), generator=generator) * (features > 0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    indices = torch.randint(0, max(features, 1), (int(counts.sum()),), generator=generator)
    return offsets.to(dtype), indices.to(dtype)


def dense(values, offsets, indices, features):
    """The sparse matrix with its zeros; equal indices add up."""
    result = values.new_zeros(len(offsets) - 1, features)
    return result.index_put((reference.rows_of(offsets), indices), values, accumulate=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    threads=st.sampled_from([1, 2]),
    rows=st.integers(0, 9),
    features=st.integers(0, 40),
    out=st.integers(0, 35),
    most=st.integers(0, 30),
    index=st.sampled_from([torch.int32, torch.int64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_the_three_products_equal_dense_ones(
    dtype, threads, rows, features, out, most, index, seed
):
    generator = torch.Generator().manual_seed(seed)
    offsets, indices = random_structure(rows, features, most, generator, index)
    values = torch.randn(len(indices), generator=generator).to(dtype)
    weight = torch.randn(features, out, generator=generator).to(dtype)
    bias = torch.randn(out, generator=generator).to(dtype)
    grad = torch.randn(rows, out, generator=generator).to(dtype)
    z = dense(values.float(), offsets, indices, features)

    def check(actual, expected):
        assert actual.dtype == dtype
        torch.testing.assert_close(actual, expected.to(dtype), **TOLERANCE[dtype])

    check(OPS.csr_linear(values, offsets, indices, weight, bias), z @ weight.float() + bias.float())
    check(OPS.csr_weight_grad(values, offsets, indices, grad, features), z.T @ grad.float())
    sampled = (grad.float() @ weight.float().T)[reference.rows_of(offsets), indices.long()]
    check(OPS.sddmm(grad, weight, offsets, indices), sampled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_other_dtypes_use_the_reference(dtype):
    offsets, indices = random_structure(5, 7, 4, torch.Generator().manual_seed(0))
    values, weight = torch.randn(len(indices)).to(dtype), torch.randn(7, 3).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    expected = dense(values.to(wide), offsets, indices, 7) @ weight.to(wide)
    torch.testing.assert_close(
        OPS.csr_linear(values, offsets, indices, weight, None), expected.to(dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_embedding_bag(dtype):
    values, weight = torch.randn(6, 9).to(dtype), torch.randn(50, 24).to(dtype)
    indices = torch.randint(50, (6, 9))
    actual = csr_linear((values, indices), weight)
    bag = F.embedding_bag(
        indices, weight.float(), per_sample_weights=values.float(), mode="sum"
    ).to(dtype)
    torch.testing.assert_close(actual, bag)
    assert torch.equal(csr_linear((values, indices.int()), weight), actual)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits_for_any_number_of_threads(dtype):
    generator = torch.Generator().manual_seed(0)
    offsets, indices = random_structure(70, 90, 60, generator)
    indices[: len(indices) // 2] = 4  # a crowded feature
    values = torch.randn(len(indices)).to(dtype)
    weight, grad = torch.randn(90, 53).to(dtype), torch.randn(70, 53).to(dtype)

    def run(threads):
        with torch_threads(threads):
            return (
                OPS.csr_linear(values, offsets, indices, weight, None),
                OPS.csr_weight_grad(values, offsets, indices, grad, 90),
                OPS.sddmm(grad, weight, offsets, indices),
            )

    for one, two in zip(run(1), run(2), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("pairs", [True, False], ids=["fixed k", "csr"])
def test_gradients(pairs):
    weight = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    if pairs:
        values = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
        indices = torch.tensor([[0, 5, 0, 2, 1], [3, 3, 3, 3, 3], [5, 4, 3, 2, 1]])

        def function(values, weight, bias):
            return csr_linear((values, indices), weight, bias)
    else:
        offsets, indices = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 3, 0, 2, 5])
        values = torch.randn(5, dtype=torch.float64, requires_grad=True)

        def function(values, weight, bias):
            csr = torch.sparse_csr_tensor(offsets, indices, values, (3, 6), check_invariants=True)
            return csr_linear(csr, weight, bias)

    assert torch.autograd.gradcheck(function, (values, weight, bias))
    assert torch.autograd.gradgradcheck(function, (values, weight, bias))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_equal_those_of_the_dense_product(dtype):
    values = torch.randn(20, 6).to(dtype).requires_grad_()
    weight = torch.randn(30, 17).to(dtype).requires_grad_()
    bias = torch.randn(17).to(dtype).requires_grad_()
    indices = torch.randint(30, (20, 6))
    grad = torch.randn(20, 17).to(dtype)
    actual = torch.autograd.grad(
        csr_linear((values, indices), weight, bias), (values, weight, bias), grad
    )
    wide = [tensor.detach().float().requires_grad_() for tensor in (values, weight, bias)]
    offsets = torch.arange(21) * 6
    z = dense(wide[0].flatten(), offsets, indices.flatten(), 30)
    expected = torch.autograd.grad(z @ wide[1] + wide[2], wide, grad.float())
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(dtype), **TOLERANCE[dtype])


def test_reaches_the_dense_input_through_threshold_compress():
    x, weight = torch.randn(5, 8, requires_grad=True), torch.randn(8, 3)
    csr_linear(threshold_compress(x, 0.5), weight).square().sum().backward()
    actual, x.grad = x.grad, None
    (torch.where(x.abs() > 0.5, x, 0) @ weight).square().sum().backward()
    torch.testing.assert_close(actual, torch.where(x.abs() > 0.5, x.grad, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["csr_linear", "csr_linear without bias", "sddmm", "weight_grad"])
@pytest.mark.versions
def test_opcheck(dtype, name):
    offsets, indices = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 3, 0, 2, 0])
    values = torch.randn(5).to(dtype).requires_grad_()
    weight = torch.randn(4, 6).to(dtype).requires_grad_()
    bias = torch.randn(6).to(dtype).requires_grad_()
    grad = torch.randn(3, 6).to(dtype).requires_grad_()
    op, arguments = {
        "csr_linear": (OPS.csr_linear, (values, offsets, indices, weight, bias)),
        "csr_linear without bias": (OPS.csr_linear, (values, offsets, indices, weight, None)),
        "sddmm": (OPS.sddmm, (grad, weight, offsets, indices)),
        "weight_grad": (OPS.csr_weight_grad, (values, offsets, indices, grad, 4)),
    }[name]
    torch.library.opcheck(op, arguments)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
def test_nan_and_inf_propagate(dtype):
    nan, inf = float("nan"), float("inf")
    weight = torch.ones(4, 3, dtype=dtype)
    weight[1], weight[2] = nan, inf
    values = torch.tensor([[0.0, 1.0], [0.0, 1.0], [nan, 1.0], [2.0, 1.0]], dtype=dtype)
    indices = torch.tensor([[1, 0], [2, 0], [0, 3], [2, 0]])
    actual = csr_linear((values, indices), weight)
    assert actual[:3].isnan().all()  # 0·nan and 0·inf are nan
    assert actual[3].isposinf().all()
    offsets = torch.arange(5) * 2
    grad = torch.ones(4, 3, dtype=dtype)
    sampled = OPS.sddmm(grad, weight, offsets, indices.flatten()).view(4, 2)
    assert sampled.isnan().tolist() == [[True, False], [False] * 2, [False] * 2, [False] * 2]
    assert sampled.isinf().tolist() == [[False] * 2, [True, False], [False] * 2, [True, False]]
    grad[3] = inf
    actual = OPS.csr_weight_grad(values.flatten(), offsets, indices.flatten(), grad, 4)
    assert actual.isnan().all(1).tolist() == [True, False, False, False]
    assert actual.isposinf().all(1).tolist() == [False, False, True, False]


def test_strided_operands_are_copied():
    values, indices = torch.randn(8, 12)[::2, ::3], torch.randint(9, (4, 4)).T
    weight, bias = torch.randn(10, 18).T[::2], torch.randn(20)[::2]
    expected = csr_linear(
        (values.contiguous(), indices.contiguous()), weight.contiguous(), bias.contiguous()
    )
    assert torch.equal(csr_linear((values, indices), weight, bias), expected)
    grad = torch.ones(1).expand(4, 10)  # as in the backward of sum()
    offsets, flat = torch.arange(5) * 4, indices.flatten()
    torch.testing.assert_close(
        OPS.sddmm(grad, weight, offsets, flat), weight.sum(1)[flat], **TOLERANCE[torch.float32]
    )


@pytest.mark.versions
def test_under_compile():
    values = torch.randn(4, 3, requires_grad=True)
    weight, indices = torch.randn(9, 5, requires_grad=True), torch.randint(9, (4, 3))

    def loss(values, weight):
        return csr_linear((values, indices), weight).relu().sum()

    expected = torch.autograd.grad(loss(values, weight), (values, weight))
    actual = torch.autograd.grad(
        torch.compile(loss, fullgraph=True)(values, weight), (values, weight)
    )
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


PAIR = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.int64)
WEIGHT = torch.ones(5, 4)
CSR = torch.eye(5).to_sparse_csr()


@pytest.mark.parametrize(
    ("activations", "weight", "bias", "error", "message"),
    [
        (torch.ones(2, 5), WEIGHT, None, ValueError, "sparse CSR"),
        (torch.eye(5).to_sparse_csc(), WEIGHT, None, ValueError, "sparse_csc"),
        (torch.ones(2, 5, 5).to_sparse_csr(), WEIGHT, None, ValueError, "sparse CSR"),
        (CSR, torch.ones(6, 4), None, ValueError, "5 features, weight_t 6"),
        (CSR, WEIGHT.double(), None, TypeError, "weight_t is torch.float64"),
        (CSR, torch.ones(5), None, ValueError, "2 dims"),
        (CSR, CSR, None, ValueError, "weight_t must be a dense tensor, .*sparse_csr"),
        ((*PAIR, PAIR[1]), WEIGHT, None, ValueError, "got 3 parts"),
        (CSR, WEIGHT, torch.ones(5), ValueError, r"bias must be of shape \(4,\)"),
        (
            CSR,
            WEIGHT,
            torch.ones(4).int(),
            TypeError,
            "bias is torch.int32, the other operands torch.float32",
        ),
        (CSR, WEIGHT.to("meta"), None, ValueError, "weight_t is on meta"),
        ((PAIR[0], PAIR[1][:1]), WEIGHT, None, ValueError, r"\(rows, k\)"),
        ((PAIR[0][0], PAIR[1][0]), WEIGHT, None, ValueError, r"\(rows, k\)"),
        ((PAIR[0], PAIR[0]), WEIGHT, None, TypeError, "int32 or int64"),
        ((PAIR[1], PAIR[1]), WEIGHT, None, TypeError, "values must be floating point"),
        (CSR.int(), WEIGHT.int(), None, TypeError, "activations must be floating point"),
        ((PAIR[0], PAIR[1].to("meta")), WEIGHT, None, ValueError, "meta"),
        ((PAIR[0], PAIR[1] + 5), WEIGHT, None, IndexError, "0 … 4, .* from 5 to 5"),
        ((PAIR[0], PAIR[1] - 1), WEIGHT, None, IndexError, "from -1 to -1"),
        ((PAIR[0], PAIR[1]), WEIGHT[:0], None, IndexError, "0 … -1"),
    ],
)
def test_wrong_arguments(activations, weight, bias, error, message):
    with pytest.raises(error, match=message):
        csr_linear(activations, weight, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("offsets", [[0, 3, 2, 4], [1, 2, 4], [0, 2, 5], [0, 2]])
def test_wrong_row_offsets(dtype, offsets):
    values, indices = torch.ones(4, dtype=dtype), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="must ascend from 0 to the number of entries, 4"):
        OPS.csr_linear(values, torch.tensor(offsets), indices, torch.ones(2, 2, dtype=dtype), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_operations_reject_wrong_shapes(dtype):
    offsets, indices = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
    values, matrix = torch.ones(2, dtype=dtype), torch.ones(2, 3, dtype=dtype)
    with pytest.raises(ValueError, match="1 values and 2 indices"):
        OPS.csr_linear(values[:1], offsets, indices, matrix, None)
    with pytest.raises(ValueError, match=r"bias must be of shape \(3,\)"):
        OPS.csr_linear(values, offsets, indices, matrix, values)
    with pytest.raises(ValueError, match=r"left must be of shape \(2, 3\)"):
        OPS.sddmm(matrix[:1], matrix, offsets, indices)
    with pytest.raises(ValueError, match=r"dense must be of shape \(2, 3\)"):
        OPS.csr_weight_grad(values, offsets, indices, matrix[:1], 2)
