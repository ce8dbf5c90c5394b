import pytest
import torch
from torch.nn.functional import linear

from sparsact.kernels import sparse_grad_linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_linear_behind_a_threshold(dtype, with_bias):
    def run(function):
        torch.manual_seed(0)
        x = torch.randn(17, 9, dtype=dtype, requires_grad=True)
        weight = torch.randn(23, 9, dtype=dtype, requires_grad=True)
        bias = torch.randn(23, dtype=dtype, requires_grad=True) if with_bias else None
        y = function(x, weight, bias)
        (y - 3).relu().square().sum().backward()
        return [y, x.grad, weight.grad] + ([bias.grad] if with_bias else [])

    tolerance = 5e-2 if dtype == torch.bfloat16 else 1e-5
    for actual, expected in zip(run(sparse_grad_linear), run(linear), strict=True):
        assert torch.allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_gradients_of_any_order():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sparse_grad_linear, (x, weight, bias))
    assert torch.autograd.gradgradcheck(sparse_grad_linear, (x, weight, bias))


def test_only_required_gradients_are_computed():
    x, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    sparse_grad_linear(x, weight).relu().sum().backward()
    assert weight.grad is not None
    assert x.grad is None


def test_wrong_arguments():
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    with pytest.raises(ValueError, match="2 dims"):
        sparse_grad_linear(x[0], weight)
    with pytest.raises(ValueError, match="weight"):
        sparse_grad_linear(x, weight.T)
    with pytest.raises(TypeError, match="float64"):
        sparse_grad_linear(x, weight.double())
    with pytest.raises(ValueError, match="bias"):
        sparse_grad_linear(x, weight, torch.randn(4))
