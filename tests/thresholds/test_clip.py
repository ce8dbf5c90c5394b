"""Clipping: its bounds and their gradients."""

import pytest
import torch

import sparsact.functional as SF


def test_gradient_goes_to_the_input_or_to_a_bound():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    lambd = torch.tensor(1.0, requires_grad=True)
    grad_x, grad_lambd = torch.autograd.grad(
        SF.clip(x, lambd), [x, lambd], torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4])
    )
    assert grad_x.tolist() == [0, 0, 100, 0, 0]
    assert grad_lambd == 1e3 + 1e4 - 1 - 10


def test_box_learns_both_bounds():
    x = torch.tensor([-2.0, 0.5, 9.0], requires_grad=True)
    lo, hi = torch.tensor(0.0, requires_grad=True), torch.tensor(6.0, requires_grad=True)
    result = SF.clip(x, lo=lo, hi=hi)
    assert result.tolist() == [0.0, 0.5, 6.0]
    grads = torch.autograd.grad(result.sum(), [x, lo, hi])
    assert [g.tolist() for g in grads] == [[0, 1, 0], 1, 1]


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"lambd": 1.0, "hi": 2.0},
        {"lo": 2.0, "hi": 1.0},
        {"lo": float("nan")},
    ],
)
def test_refuses(keywords):
    with pytest.raises(ValueError, match=r"clip|NaN"):
        SF.clip(torch.ones(2), **keywords)


def test_crossed_tensors_act_as_in_torch():
    x, lo = torch.tensor([-5.0, 1.5, 5.0]), torch.tensor(2.0)
    assert torch.equal(SF.clip(x, lo=lo, hi=1.0), torch.clamp(x, lo, torch.tensor(1.0)))


def test_one_bound_only():
    x = torch.tensor([-5.0, 5.0])
    assert SF.clip(x, hi=1.0).tolist() == [-5.0, 1.0]
    assert SF.clip(x, lo=0.0).tolist() == [0.0, 5.0]
