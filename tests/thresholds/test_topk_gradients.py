"""Gradients of a selection: straight-through, and perturbed against a smoothed selection."""

import pytest
import torch
from torch import func

import sparsact as sa
import sparsact.functional as SF

# raised by torch.func, about its own code
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is")
GRADIENTS = ["exact", "straight_through", "perturbed"]
ways = pytest.mark.parametrize("by", ["value", "magnitude"])


@ways
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_forward_is_the_same(by, gradient, dtype):
    x = torch.randn(4, 9).to(dtype)
    x[0, 0] = float("nan")
    mask = torch.rand(4, 9) > 0.2
    for options in ({}, {"mask": mask}, {"mask": mask, "zero_other": True}):
        expected = SF.topk(x, 3, by=by, **options)
        result = SF.topk(x, 3, by=by, gradient=gradient, **options)
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)
        assert result.dtype == dtype
    moved = SF.topk(x.T, 3, 0, by=by, gradient=gradient)
    torch.testing.assert_close(moved.T, SF.topk(x, 3, by=by), rtol=0, atol=0, equal_nan=True)
    module = sa.nn.TopK(3, by=by, gradient=gradient)
    torch.testing.assert_close(module(x), SF.topk(x, 3, by=by), rtol=0, atol=0, equal_nan=True)


@ways
def test_straight_through_passes_everything_that_competes(by):
    x = torch.randn(4, 9, requires_grad=True)
    weight = torch.randn(4, 9)
    mask = torch.rand(4, 9) > 0.3
    (grad,) = torch.autograd.grad(
        (weight * SF.topk(x, 3, by=by, gradient="straight_through")).sum(), x
    )
    assert grad.equal(weight)
    masked = SF.topk(x, 3, by=by, mask=mask, zero_other=True, gradient="straight_through")
    (grad,) = torch.autograd.grad((weight * masked).sum(), x)
    assert grad.equal(weight * mask)
    _, tangent = func.jvp(
        lambda x: SF.topk(x, 3, by=by, gradient="straight_through"), (x.detach(),), (weight,)
    )
    assert tangent.equal(weight)


@ways
def test_perturbed_is_the_slope_of_the_smoothed_choice(by):
    """Finite differences of ``Σ w·x·P(chosen)``, the x in front fixed, plus the exact part."""
    torch.manual_seed(0)
    sigma = 0.2
    x = torch.tensor([[1.0, 0.9, -0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[1.0, 3.0, 2.0, 1.0]], dtype=torch.float64)
    result = SF.topk(x, 1, by=by, gradient="perturbed", sigma=sigma, samples=6000)
    (grad,) = torch.autograd.grad((weight * result).sum(), x)
    noise = sigma * torch.randn(200_000, 4, dtype=torch.float64)
    front = weight * (x.relu() if by == "value" else x).detach()

    def smoothed(point):
        score = point if by == "value" else point.abs()
        chosen = (score + noise).argmax(1)
        return front[0, chosen].mean()

    shifts = 0.05 * torch.eye(4, dtype=torch.float64)
    slopes = [(smoothed(x[0] + shift) - smoothed(x[0] - shift)) / 0.1 for shift in shifts]
    exact = weight[0] * (result[0] != 0)
    torch.testing.assert_close(grad[0], torch.stack(slopes).detach() + exact, atol=0.2, rtol=0)


def test_a_selection_is_learned():
    """The exact gradient never tries the entry that pays; the others find it."""
    reward = torch.tensor([0.0, 1.0, 0.0])
    for gradient in GRADIENTS:
        torch.manual_seed(0)
        score = torch.tensor([1.0, 0.8, 0.5], requires_grad=True)
        optimizer = torch.optim.SGD([score], lr=0.02)
        for _ in range(40):
            optimizer.zero_grad()
            chosen = SF.topk(score, 1, gradient=gradient, sigma=0.3, samples=50)
            (-(reward * chosen).sum()).backward()
            optimizer.step()
        assert (score.argmax() == 1) == (gradient != "exact")


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_compiled(gradient):
    torch._dynamo.reset()
    module = sa.nn.TopK(2, gradient=gradient)
    x = torch.randn(3, 5, requires_grad=True)
    result = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(result, module(x))
    result.sum().backward()
    assert x.grad.isfinite().all()


def test_refusals():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="gradient= must be one of"):
        SF.topk(x, 1, gradient="soft")
    with pytest.raises(ValueError, match="sigma= must be positive"):
        sa.nn.TopK(1, gradient="perturbed", sigma=0.0)
    with pytest.raises(ValueError, match="samples= must be at least 1"):
        SF.topk(x, 1, gradient="perturbed", samples=0)
    with pytest.raises(ValueError, match="gradient='perturbed' needs real inputs"):
        SF.topk(x.to(torch.complex64), 1, by="magnitude", gradient="perturbed")
    with pytest.raises(ValueError, match="has no forward mode"):
        func.jvp(lambda x: SF.topk(x, 1, gradient="perturbed"), (x,), (x,))
