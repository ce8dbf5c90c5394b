"""Triton's selection of the largest entries: ties, order, NaN, and every dtype."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_linear_topk import small_integers

from sparsact.kernels.reference import selection_reference as reference
from sparsact.kernels.triton.linear_topk import _BLOCKS, linear_topk, select

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NAN, INF = float("nan"), float("inf")


def stably_sorted(scores, k):
    """NaN first, then descending; among equal values the lower column."""
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], indices[:, :k]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    rows=st.integers(0, 6),
    features=st.integers(0, 40),
    width=st.integers(0, 6),
    share=st.floats(0, 1),
    select_dtype=st.sampled_from([None, torch.bfloat16]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_ties_and_order(dtype, rows, features, width, share, select_dtype, with_bias, seed, device):
    generator = torch.Generator().manual_seed(seed)
    x = small_integers(generator, rows, width).to(device, dtype)
    weight = small_integers(generator, features, width).to(device, dtype)
    bias = small_integers(generator, features).to(device, dtype) if with_bias else None
    k = round(share * features)
    values, indices = linear_topk(x, weight, bias, k, select_dtype, scores_at_once=44)
    scores = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    want, places = stably_sorted(scores, k)
    assert torch.equal(values, want.to(dtype))
    assert torch.equal(indices, places)
    assert values.is_contiguous()


@pytest.mark.parametrize("scores_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 3, 16, 17])
def test_special_values_have_their_places(scores_dtype, k, device):
    special = [0.0, -INF, 3.0, NAN, -0.0, INF, -NAN, 0.0, -1.0, *[-INF] * 8]
    scores = torch.tensor([special, special[::-1]], dtype=scores_dtype, device=device)
    wide = torch.promote_types(scores_dtype, torch.float32)
    values = torch.empty(2, k, dtype=wide, device=device)
    indices = torch.empty(2, k, dtype=torch.int64, device=device)
    select(scores, None, k, values, indices)
    want, places = stably_sorted(scores.to(wide), k)
    places, order = places.sort(1)
    assert torch.equal(indices, places)
    torch.testing.assert_close(values, want.gather(1, order), equal_nan=True)


@pytest.mark.parametrize("block", _BLOCKS, ids=str)
@pytest.mark.parametrize("wide", [torch.float32, torch.float64], ids=str)
def test_rows_of_several_blocks(block, wide, device, monkeypatch):
    monkeypatch.setattr("sparsact.kernels.triton.linear_topk._BLOCKS", [block])
    # entries of all sizes and signs, in which many digits of the keys decide
    scores = torch.randn(2, 9000, dtype=wide) * 10 ** torch.randint(-30, 30, (2, 9000)).to(wide)
    scores[:, 7000:] = scores[:, 100:101]
    scores, k = scores.to(device), 4321
    values = torch.empty(2, k, dtype=wide, device=device)
    indices = torch.empty(2, k, dtype=torch.int64, device=device)
    select(scores, None, k, values, indices)
    _, places = stably_sorted(scores, k)
    assert torch.equal(indices, places.sort(1).values)
    assert torch.equal(values, scores.gather(1, indices))


def test_the_reference_selects_the_same(device):
    x, weight, bias = torch.randn(9, 20), torch.randn(300, 20), torch.randn(300)
    operands = [tensor.to(device) for tensor in (x, weight, bias)]
    for select_dtype in (None, torch.bfloat16):
        ours = linear_topk(*operands, 7, select_dtype)
        theirs = reference.linear_topk(*operands, 7, select_dtype)
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
        assert torch.equal(ours[1], theirs[1])
