"""Softplus against torch, and at the ends of its range."""

import pytest
import torch
import torch.nn.functional as F

import sparsact.functional as SF

SAMPLE = torch.linspace(-3, 3, 1001, dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.5, 1.0, 10.0])
def test_equals_torch_below_its_cutoff(beta):
    x = SAMPLE.clone().requires_grad_()
    torch.testing.assert_close(SF.softplus(x, beta), F.softplus(x, beta, threshold=1000))
    (got,) = torch.autograd.grad(SF.softplus(x, beta).sum(), x)
    torch.testing.assert_close(got, torch.sigmoid(beta * x))


def test_has_no_jump_at_torchs_cutoff():
    below, above = torch.tensor([19.999, 20.001], dtype=torch.float64)
    assert SF.softplus(above) - SF.softplus(below) > 0.002 - 1e-9
    assert F.softplus(above) == above  # torch drops the term there
    assert SF.softplus(above) > above


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e4, 1e30])
def test_never_overflows(dtype, beta):
    limit = torch.finfo(dtype).max
    x = torch.tensor([-limit, -50.0, 0.0, 50.0, limit], dtype=dtype)
    result = SF.softplus(x, beta)
    assert result.isfinite().all()
    assert (result >= 0).all()
    assert result[-1] == limit


def test_gradient_to_beta():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    beta = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SF.softplus, (x, beta))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_refuses_a_bad_beta(beta):
    with pytest.raises(ValueError, match="beta"):
        SF.softplus(torch.ones(2), beta)
