"""Triton's products with sparse rows, in all dtypes, against dense products in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_csr_linear import dense, random_structure

from sparsact.kernels.reference import csr_reference as reference
from sparsact.kernels.triton import csr

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.bfloat16: {},
    torch.float16: {},
    torch.float64: {},
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    rows=st.integers(0, 7),
    features=st.integers(0, 20),
    out=st.integers(0, 35),
    most=st.integers(0, 25),
    index=st.sampled_from([torch.int32, torch.int64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_the_three_products_equal_dense_ones(dtype, rows, features, out, most, index, seed, device):
    generator = torch.Generator().manual_seed(seed)
    offsets, indices = random_structure(rows, features, most, generator, index)
    values = torch.randn(len(indices), generator=generator).to(dtype)
    weight = torch.randn(features, out, generator=generator).to(dtype)
    bias = torch.randn(out, generator=generator).to(dtype)
    grad = torch.randn(rows, out, generator=generator).to(dtype)
    z = dense(values.double(), offsets, indices, features)

    def check(function, operands, expected):
        actual = function(*[x.to(device) if isinstance(x, torch.Tensor) else x for x in operands])
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.cpu(), expected.to(dtype), **TOLERANCE[dtype])

    structure = (offsets, indices)
    check(
        csr.csr_linear,
        (values, *structure, weight, bias),
        z @ weight.double() + bias.double(),
    )
    check(csr.csr_linear, (values, *structure, weight, None), z @ weight.double())
    check(csr.csr_weight_grad, (values, *structure, grad, features), z.T @ grad.double())
    sampled = (grad.double() @ weight.double().T)[reference.rows_of(offsets), indices.long()]
    check(csr.sddmm, (grad, weight, *structure), sampled)


@pytest.mark.parametrize("choice", csr._BLOCKS, ids=str)
def test_every_choice_of_blocks_gives_the_same_bits(choice, device, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    offsets, indices = random_structure(3, 9, 20, generator)
    values, weight = torch.randn(len(indices)), torch.randn(9, 1100)
    operands = [tensor.to(device) for tensor in (values, offsets, indices, weight)]
    first = csr.csr_linear(*operands, None)
    monkeypatch.setattr(csr, "_BLOCKS", [choice])
    assert torch.equal(csr.csr_linear(*operands, None), first)


def test_rows_with_many_entries_are_shared_by_programs(device):
    indices = torch.arange(300, device=device) % 7
    offsets = torch.tensor([0, 300], device=device)
    left, right = torch.randn(1, 1030, device=device), torch.randn(7, 1030, device=device)
    actual = csr.sddmm(left, right, offsets, indices)
    torch.testing.assert_close(actual, (right @ left[0])[indices], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [-1, 4, 2**31 + 1])
def test_an_index_out_of_range_is_nan_and_reads_nothing(wrong, device):
    offsets = torch.tensor([0, 2, 4], device=device)
    indices = torch.tensor([0, wrong, 3, 1], device=device)
    values, matrix = torch.ones(4, device=device), torch.ones(4, 3, device=device)
    product = csr.csr_linear(values, offsets, indices, matrix, None)
    assert product.isnan().all(1).tolist() == [True, False]
    sampled = csr.sddmm(matrix[:2], matrix, offsets, indices)
    assert sampled.isnan().tolist() == [False, True, False, False]
    assert csr.csr_weight_grad(values, offsets, indices, matrix[:2], 4).isnan().all()


@pytest.mark.parametrize("ends", [[0, 3, 2, 4], [1, 2, 4], [0, 2, 5], [0, 2]])
def test_wrong_row_offsets_are_nan(ends, device):
    values, indices = torch.ones(4, device=device), torch.tensor([0, 1, 0, 1], device=device)
    offsets, matrix = torch.tensor(ends, device=device), torch.ones(2, 2, device=device)
    assert csr.csr_linear(values, offsets, indices, matrix, None).isnan().any()
    left = torch.ones(len(ends) - 1, 2, device=device)
    assert csr.csr_weight_grad(values, offsets, indices, left, 2).isnan().any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_does_not_wait():
    values = torch.randn(64, 8, device="cuda", requires_grad=True)
    indices = torch.randint(500, (64, 8), device="cuda")
    weight = torch.randn(500, 96, device="cuda", requires_grad=True)

    def gradients():
        from sparsact.kernels import csr_linear

        loss = csr_linear((values, indices), weight).square().sum()
        return torch.autograd.grad(loss, (values, weight))

    first = gradients()  # compiles and tunes
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = gradients()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
