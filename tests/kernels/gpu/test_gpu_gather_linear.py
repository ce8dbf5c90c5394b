"""Triton's linear layers on active inputs, in the dtypes and at the sizes the CPU does not have."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gather_linear import expected, scale_for, weight

from sparsact.kernels.reference.gather_reference import gather_linear as reference
from sparsact.kernels.triton.gather import ROWS_AT_MOST, choices, gather_linear, product

X_DTYPES = [torch.float32, torch.bfloat16, torch.float16]
WEIGHT_DTYPES = [*X_DTYPES, torch.int8, torch.uint8]
ROUNDING = {torch.float32: 0, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def assert_close(actual, x, *operands):
    y, size = expected(x.cpu(), *operands)
    assert (actual.dtype, actual.shape) == (x.dtype, y.shape)
    error = (actual.cpu().double() - y).abs()
    assert (error <= 1e-5 * size + y.abs() * ROUNDING[x.dtype]).all()


def moved(tensor, device):
    return None if tensor is None else tensor.to(device)


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("x_dtype", X_DTYPES, ids=str)
@given(
    rows=st.integers(0, ROWS_AT_MOST),
    inputs=st.integers(0, 70),
    outputs=st.integers(0, 140),
    per_input=st.booleans(),
    has_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_any_size(x_dtype, weight_dtype, rows, inputs, outputs, per_input, has_bias, seed, device):
    torch.manual_seed(seed)
    x, weight_t = torch.randn(rows, inputs).to(x_dtype), weight(inputs, outputs, weight_dtype)
    level = torch.rand(inputs) if per_input else torch.tensor(0.5)
    bias, scale = torch.randn(outputs) if has_bias else None, scale_for(weight_t, outputs)
    operands = [moved(tensor, device) for tensor in (x, weight_t, level, bias, scale)]
    assert_close(product(*operands), x, weight_t, level, bias, scale)


@pytest.mark.parametrize("choice", range(len(choices(1, 1))))
@pytest.mark.parametrize("rows", [1, 8])
def test_every_choice_of_blocks(choice, rows, device, monkeypatch):
    chosen = choices(rows, 90)[choice]
    monkeypatch.setattr("sparsact.kernels.triton.gather.choices", lambda *_: [chosen])
    x, weight_t = torch.randn(rows, 90), torch.randn(90, 130)
    operands = (x.to(device), weight_t.to(device), torch.tensor(0.5, device=device), None, None)
    assert_close(product(*operands), x, weight_t, 0.5)


def test_packed_weights_that_are_not_aligned(device):
    x, weight_t, scale = torch.randn(2, 7), weight(7, 40, torch.uint8), torch.ones(40)
    moved_by_one = torch.zeros(weight_t.numel() + 1, dtype=torch.uint8, device=device)
    shifted = moved_by_one[1:].view(weight_t.shape).copy_(weight_t)
    level = torch.tensor(0.5, device=device)
    actual = gather_linear(x.to(device), [shifted], level, [None], [scale.to(device)], 7)[0]
    assert_close(actual, x, weight_t, 0.5, None, scale)


@pytest.mark.parametrize("rows", [ROWS_AT_MOST, ROWS_AT_MOST + 1])
@pytest.mark.parametrize("bits", [torch.float32, torch.int8], ids=str)
def test_nan_is_active_and_skipped_weights_do_not_count(rows, bits, device):
    x = torch.randn(rows, 20, device=device)
    x[:, 3] = 0.25
    x[0, 5] = torch.nan
    weight_t = weight(20, 33, bits).to(device)
    if bits == torch.float32 and rows <= ROWS_AT_MOST:
        weight_t[3] = torch.inf  # inactive in all rows
    scale = None if bits == torch.float32 else torch.ones(33, device=device)
    level = torch.full((20,), 0.25, device=device)  # the band is closed
    actual = gather_linear(x, [weight_t], level, [None], [scale], 20)[0]
    finite = torch.where(weight_t.isinf(), 0, weight_t)
    want = reference(x, [finite], level, [None], [scale], 20)[0]
    assert actual[0].isnan().all()
    torch.testing.assert_close(actual, want, equal_nan=True, rtol=1e-5, atol=1e-3)


def test_few_rows_give_the_same_bits_again(device):
    x, weight_t = torch.randn(4, 100, device=device), torch.randn(100, 90, device=device)
    operands = (x, weight_t, torch.tensor(0.5, device=device), None, None)
    assert torch.equal(product(*operands), product(*operands))
