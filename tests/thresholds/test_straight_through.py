"""The windows in which a hard threshold receives a gradient."""

import pytest
import torch

import sparsact as sa
import sparsact.functional as SF
from sparsact.thresholds.straight_through import window

KERNELS = ["rectangle", "triangle", "sigmoid"]
kernels = pytest.mark.parametrize("kernel", KERNELS)
WIDTHS = {"rectangle": 1.0, "triangle": 1.0, "sigmoid": 0.8814}  # at half height, over ε


@kernels
@pytest.mark.parametrize("bandwidth", [0.05, 1.0, 3.0])
def test_area_is_one_and_height_one_over_bandwidth(kernel, bandwidth):
    step = bandwidth / 1000
    distance = torch.arange(-20_000, 20_001, dtype=torch.float64) * step
    height = window(distance, bandwidth, kernel)
    assert float(height.sum() * step) == pytest.approx(1, abs=2e-3)
    assert float(height.max()) == pytest.approx(1 / bandwidth)
    assert height.equal(height.flip(0))
    width = float((height >= 0.5 / bandwidth).sum() * step) / bandwidth
    assert width == pytest.approx(WIDTHS[kernel], abs=3e-3)


@pytest.mark.parametrize("function", [SF.hardshrink, SF.jumprelu])
@kernels
def test_gradient_by_hand(function, kernel):
    lambd = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([-0.51, 0.2, 0.49, 0.52, 0.6])
    weight = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])
    result = function(x, lambd, bandwidth=0.05, kernel=kernel)
    (grad,) = torch.autograd.grad((result * weight).sum(), lambd)
    sign = x.sign() if function is SF.hardshrink else torch.ones(5)
    distance = (x.abs() if function is SF.hardshrink else x) - 0.5
    torch.testing.assert_close(grad, -(sign * 0.5 * window(distance, 0.05, kernel) * weight).sum())
    assert grad != 0


@pytest.mark.parametrize("function", [SF.hardshrink, SF.jumprelu])
@kernels
def test_gradient_is_finite_for_extreme_inputs(function, kernel):
    lambd = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([float("inf"), -float("inf"), 1e38, -1e38, 0.0, 0.5])
    (grad,) = torch.autograd.grad(function(x, lambd, kernel=kernel).sum(), lambd)
    assert grad.isfinite()


@kernels
def test_gradient_is_the_slope_of_the_smoothed_output(kernel):
    """For x spread far wider than ε, the mean gradient is −λ·p(λ) for every kernel."""
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)  # density 1 around λ
    lambd = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    result = SF.jumprelu(x, lambd, bandwidth=0.02, kernel=kernel)
    (grad,) = torch.autograd.grad(result.mean(), lambd)
    assert float(grad) == pytest.approx(-0.5, rel=1e-3)


@pytest.mark.parametrize("build", [sa.nn.Hardshrink, sa.nn.JumpReLU])
def test_modules_use_their_kernel(build):
    x = torch.linspace(-1, 1, 400)
    gradients = []
    for kernel in KERNELS:
        module = build(0.5, learnable=True, bandwidth=0.3, kernel=kernel)
        module(x).square().sum().backward()
        gradients.append(module.lambd.grad.item())
    assert len(set(gradients)) == 3
    with pytest.raises(ValueError, match=r"kernel= must be one of .*'box'"):
        build(0.5, kernel="box")
    with pytest.raises(ValueError, match="bandwidth"):
        build(0.5, bandwidth=0.0)


def test_unknown_kernel():
    for function in (SF.hardshrink, SF.jumprelu):
        with pytest.raises(ValueError, match="kernel= must be one of"):
            function(torch.ones(2), 0.5, kernel="gauss")


@pytest.mark.parametrize("function", [SF.hardshrink, SF.jumprelu])
def test_gradient_is_right_under_all_nestings_of_transforms(function):
    """If λ learns, backward needs the input: every kind of transform must detect this."""
    x, lambd = torch.linspace(-1, 1, 200), torch.tensor([0.3, 0.5])

    def loss(x, lambd):
        return function(x, lambd, bandwidth=0.3).square().sum()

    leaf = lambd.clone().requires_grad_()
    (want,) = torch.autograd.grad(sum(loss(x, level) for level in leaf), leaf)
    assert (want != 0).all()
    func, each = torch.func, torch.func.vmap(loss, (None, 0))
    torch.testing.assert_close(func.vmap(func.grad(loss, 1), (None, 0))(x, lambd), want)
    torch.testing.assert_close(func.grad(lambda level: each(x, level).sum())(lambd), want)
    torch.testing.assert_close(func.jacrev(lambda level: each(x, level).sum())(lambd), want)


@pytest.mark.parametrize("function", [SF.hardshrink, SF.jumprelu])
def test_gradient_by_hand_in_numbers(function):
    lambd = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([-0.51, 0.2, 0.49, 0.52, 0.6])
    weight = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])
    (grad,) = torch.autograd.grad((function(x, lambd, bandwidth=0.05) * weight).sum(), lambd)
    mirrored = 1.0 if function is SF.hardshrink else 0.0  # -0.51 is in the window on that side
    torch.testing.assert_close(grad, torch.tensor(-(0.5 / 0.05) * (100 + 1000 - mirrored)))


@pytest.mark.parametrize("function", [SF.hardshrink, SF.jumprelu])
@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("inf")])
def test_bandwidth_must_be_positive(function, bandwidth):
    with pytest.raises(ValueError, match="bandwidth"):
        function(torch.ones(2), 0.5, bandwidth=bandwidth)
