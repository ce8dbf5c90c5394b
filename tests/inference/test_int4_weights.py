import pytest
import torch
from torch import nn

from sparsact.inference import SparseLinear
from sparsact.inference.int4_weights import quantise
from sparsact.kernels.reference.int4 import pack, unpack


def rounded(weight_t):
    packed, scale = quantise(weight_t)
    return unpack(packed, len(scale)) * scale


def relative(weight_t, other):
    return float((weight_t - other).norm() / weight_t.norm())


def least_error_of_a_block(block):
    """The least error over many ranges, each rounded to 16 equal steps."""
    low, high = block.min(), block.max()
    ends = [(low + a * (high - low), high - b * (high - low))
            for a in torch.linspace(0, 0.3, 13) for b in torch.linspace(0, 0.3, 13)]  # fmt: skip
    return min(
        ((block - (start + ((block - start) / (stop - start) * 15).round().clamp(0, 15)
                   * (stop - start) / 15)).square().sum())
        for start, stop in ends
    )  # fmt: skip


@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 100])
def test_codes_come_back(outputs):
    blocks = -(-outputs // 32)
    codes = torch.randint(0, 16, (7, blocks, 32))
    scale, minimum = torch.rand(7, blocks).bfloat16(), torch.randn(7, blocks).bfloat16()
    expected = codes * scale.float()[..., None] + minimum.float()[..., None]
    packed = pack(codes, scale, minimum)
    assert packed.shape == (7, 20 * blocks)
    assert torch.equal(unpack(packed, outputs), expected.flatten(1)[:, :outputs])


def test_the_error_is_near_the_least_of_a_search():
    weight_t = torch.randn(40, 32)
    weight_t = weight_t / weight_t.square().mean(0).sqrt()
    least = torch.stack([least_error_of_a_block(row) for row in weight_t])
    error = (rounded(weight_t) - weight_t).square().sum(1)
    assert error.mean() < 1.05 * least.mean()


@pytest.mark.parametrize("shape", [(1, 1), (3, 32), (8, 33), (5, 100), (0, 4), (4, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_shape(shape, dtype):
    weight_t = torch.randn(shape).to(dtype)
    actual = rounded(weight_t)
    assert actual.shape == shape
    assert (actual - weight_t.float()).norm() <= 0.11 * weight_t.float().norm() + 1e-6


def test_channels_of_different_size_keep_their_precision():
    weight_t = torch.randn(64, 96) * torch.logspace(-3, 3, 96)
    apart = (rounded(weight_t) - weight_t).norm(dim=0) / weight_t.norm(dim=0)
    assert apart.max() < 0.11


def test_zeros_and_constants():
    assert torch.equal(rounded(torch.zeros(3, 40)), torch.zeros(3, 40))
    torch.testing.assert_close(rounded(torch.full((3, 40), -0.7)), torch.full((3, 40), -0.7))
    weight_t = torch.randn(8, 64)
    weight_t[:, 5] = 0
    assert rounded(weight_t).isfinite().all()


@pytest.mark.parametrize("rows", [(), (1,), (3,), (80,)], ids=str)
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_multiplies_by_the_rounded_weight(rows, x_dtype):
    source, x = nn.Linear(30, 50), torch.randn(*rows, 30).to(x_dtype)
    layer = SparseLinear(source, 0.5, dtype="int4")
    kept = torch.where(x.float().abs() > 0.5, x.float(), 0)
    expected = nn.functional.linear(kept, rounded(source.weight.detach().t()).t(), source.bias)
    with torch.no_grad():
        actual = layer(x)
    assert actual.dtype == x_dtype
    rounding = 1e-5 if x_dtype == torch.float32 else 2**-7
    torch.testing.assert_close(actual.float(), expected, rtol=rounding, atol=rounding)


def test_bytes_and_name():
    layer = SparseLinear(nn.Linear(64, 96), 0.5, dtype="int4")
    assert layer.weight_t.nbytes == 64 * 96 * 5 // 8
    assert "dtype=int4" in repr(layer)
    assert (layer.in_features, layer.out_features) == (64, 96)


def test_a_state_dict_is_dense_and_loading_rounds_it_again():
    source = nn.Linear(64, 96)
    layer = SparseLinear(source, 0.5, dtype="int4")
    state = layer.state_dict()
    torch.testing.assert_close(state["weight"], rounded(source.weight.detach().t()).t())
    other = SparseLinear(nn.Linear(64, 96), 0.5, dtype="int4")
    other.load_state_dict(state)
    weight_t = source.weight.detach().t()
    once, twice = relative(weight_t, layer.dense_weight_t), relative(weight_t, other.dense_weight_t)
    assert once < twice < 1.1 * once
