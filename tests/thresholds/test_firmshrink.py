"""Firm shrinkage: its two bounds."""

import numpy as np
import pytest
import torch

import sparsact.functional as SF

SAMPLE = torch.linspace(-3, 3, 1001, dtype=torch.float64)


def test_between_hard_and_soft_entry_by_entry():
    lambd = torch.tensor(0.5, dtype=torch.float64)
    upper = torch.tensor([0.5, np.inf, 1.0], dtype=torch.float64)[:, None]
    x = SAMPLE.expand(3, -1)
    want = [SF.hardshrink(SAMPLE, 0.5), SF.softshrink(SAMPLE, 0.5), SF.firmshrink(SAMPLE, 0.5, 1.0)]
    assert SF.firmshrink(x, lambd, upper).equal(torch.stack(want))
    for level in (0.0, 0.1, 0.5):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            y = SAMPLE.to(dtype)
            assert SF.firmshrink(y, level, torch.inf).equal(SF.softshrink(y, level))
            assert SF.firmshrink(y, level, level).equal(SF.hardshrink(y, level))


def test_gradient_to_both_bounds():
    x = torch.tensor([-1.3, -0.7, 0.02, 0.2, 0.9, 2.0], dtype=torch.float64, requires_grad=True)
    lambd = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    upper = torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4, np.inf], dtype=torch.float64)
    assert torch.autograd.gradcheck(SF.firmshrink, (x, lambd, 1.5))
    assert torch.autograd.gradcheck(
        lambda x, t, u: SF.firmshrink(x, t, u), (x, lambd, upper[:5].mean().requires_grad_())
    )
    assert torch.autograd.gradcheck(
        lambda x, t, u: SF.firmshrink(x[:5], t, u), (x, lambd, upper[:5].clone().requires_grad_())
    )
    grads = torch.autograd.grad(
        SF.firmshrink(x, lambd, upper.requires_grad_()).sum(), [x, lambd, upper]
    )
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[2][5] == 0  # an infinite upper bound stays where it is


@pytest.mark.parametrize("upper", [0.4, float("nan")])
def test_refuses_an_upper_bound_below_lambda(upper):
    with pytest.raises(ValueError, match="upper >= lambd"):
        SF.firmshrink(torch.ones(3), 0.5, upper)
    with pytest.raises(ValueError, match="upper= of shape"):
        SF.firmshrink(torch.ones(3), 0.5, torch.ones(2))
