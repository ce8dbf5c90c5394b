import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from sparsact.inference.rms_norm import RMSNorm, as_rms_norm

DTYPES = [torch.float32, torch.bfloat16]


def swapped(norm):
    norm.weight.data = torch.randn_like(norm.weight)
    return as_rms_norm(norm)


@pytest.fixture(autouse=True)
def _inference():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen2RMSNorm, nn.RMSNorm])
@pytest.mark.parametrize("rows", [(), (1, 1), (3, 2), (65,), (0,)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_equals_the_norm_it_replaces(kind, rows, dtype, size):
    norm = kind(70, eps=1e-6).to(dtype)
    ours, x = swapped(norm), (size * torch.randn(*rows, 70)).to(dtype)
    assert isinstance(ours, RMSNorm)
    expected = nn.functional.rms_norm(x.double(), (70,), norm.weight.double(), 1e-6)
    rounding = 1e-6 if dtype == torch.float32 else 2**-8
    assert ours(x).dtype == dtype
    torch.testing.assert_close(ours(x).double(), expected, rtol=rounding, atol=1e-30)
    torch.testing.assert_close(ours(x), norm(x), rtol=3 * rounding, atol=1e-30)


@pytest.mark.parametrize(("x", "weight"), [DTYPES, DTYPES[::-1]])
def test_different_dtypes_give_the_wider_one(x, weight):
    norm, rows = LlamaRMSNorm(8).to(weight), torch.randn(2, 8).to(x)
    assert swapped(norm)(rows).dtype == norm(rows).dtype == torch.float32
    torch.testing.assert_close(as_rms_norm(norm)(rows), norm(rows), rtol=2**-6, atol=1e-6)


def test_rows_with_gaps_between_them():
    norm, x = LlamaRMSNorm(8), torch.randn(3, 16)[:, ::2]
    torch.testing.assert_close(swapped(norm)(x), norm(x))


@pytest.mark.versions
def test_nan_stays_in_its_row():
    x = torch.randn(2, 8)
    x[0, 3] = torch.nan
    actual = swapped(LlamaRMSNorm(8))(x)
    assert actual[0].isnan().all()
    assert actual[1].isfinite().all()


def test_a_norm_that_computes_something_else_stays():
    norm = GemmaRMSNorm(8)  # multiplies by 1 + weight
    norm.weight.data.normal_()
    assert as_rms_norm(norm) is None
    assert as_rms_norm(nn.LayerNorm(8)) is None
    assert as_rms_norm(nn.RMSNorm(8)) is None  # with the dtype's own ε
    assert as_rms_norm(nn.RMSNorm((2, 8), eps=1e-6)) is None


def test_a_gradient_goes_through():
    ours, x = swapped(LlamaRMSNorm(8)), torch.randn(2, 8, requires_grad=True)
    with torch.enable_grad():
        ours(x).square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_wrong_width():
    with pytest.raises(RuntimeError, match="normalized_shape"):
        swapped(LlamaRMSNorm(8))(torch.randn(2, 4))
