"""Fixed thresholds against torch and PyWavelets, away from their known defects."""

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F

import sparsact.functional as SF

SAMPLE = torch.linspace(-3, 3, 1001, dtype=torch.float64)


@pytest.mark.parametrize("lambd", [0.0, 0.25, 0.5, 1.7])
def test_torch(lambd):
    x = SAMPLE.clone().requires_grad_()
    for ours, theirs in [(SF.softshrink, F.softshrink), (SF.hardshrink, F.hardshrink)]:
        assert ours(x, lambd).equal(theirs(x, lambd))
        (got,) = torch.autograd.grad(ours(x, lambd).sum(), x)
        (want,) = torch.autograd.grad(theirs(x, lambd).sum(), x)
        assert got.equal(want)


@pytest.mark.parametrize(("function", "mode"), [(SF.softshrink, "soft"), (SF.hardshrink, "hard")])
def test_pywavelets(function, mode):
    lambd = 0.5
    x = SAMPLE[SAMPLE.abs() != lambd]  # pywt keeps |x| = λ in hard mode; our band is closed
    np.testing.assert_allclose(function(x, lambd), pywt.threshold(x.numpy(), lambd, mode))
    edge = torch.tensor([lambd])
    assert pywt.threshold(edge.numpy(), lambd, "hard") == lambd
    assert SF.hardshrink(edge, lambd) == 0


@pytest.mark.parametrize("lambd", [0.25, 0.5, 1.7])
def test_pywavelets_garrote(lambd):
    np.testing.assert_allclose(
        SF.garrote(SAMPLE, lambd), pywt.threshold(SAMPLE.numpy(), lambd, "garrote"), atol=1e-15
    )


@pytest.mark.parametrize(("lambd", "upper"), [(0.5, 1.0), (0.25, 2.5), (0.0, 1.0), (1.0, 1.01)])
def test_pywavelets_firm(lambd, upper):
    np.testing.assert_allclose(
        SF.firmshrink(SAMPLE, lambd, upper),
        pywt.threshold_firm(SAMPLE.numpy(), lambd, upper),
        atol=1e-15,
        rtol=1e-12,
    )


@pytest.mark.parametrize("a", [2.0, 1.0, float("inf"), float("nan")])
def test_scad_refuses(a):
    with pytest.raises(ValueError, match="above 2"):
        SF.scad(torch.ones(3), 0.5, a)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "function",
    [
        SF.garrote,
        SF.halfshrink,
        SF.scad,
        SF.softshrink,
        SF.hardshrink,
        lambda x, t: SF.firmshrink(x, t, t),
        lambda x, t: SF.firmshrink(x, t, torch.inf),
        lambda x, t: SF.firmshrink(x, t, 1.0),
    ],
)
def test_zero_at_threshold_zero_is_zero_without_nan(function, dtype):
    x = torch.tensor([0.0, -0.0, 1.5, -1.5], dtype=dtype, requires_grad=True)
    lambd = torch.zeros((), requires_grad=True)
    result = function(x, lambd)
    assert result.equal(x)  # λ = 0 is the identity for all of them
    grads = torch.autograd.grad(result.sum(), [x, lambd])
    assert grads[0].tolist() == [0, 0, 1, 1]
    assert grads[1].isfinite()


@pytest.mark.parametrize("function", [SF.garrote, SF.firmshrink, SF.halfshrink, SF.scad])
def test_fp16_output_that_underflows_has_gradient_zero(function):
    x = torch.tensor([0.1], dtype=torch.float16, requires_grad=True)
    lambd = (
        float(x.detach()) - 1e-8
    )  # just outside the band: the shrunken value is below fp16's smallest
    result = function(x, lambd)
    (grad,) = torch.autograd.grad(result.sum(), x)
    assert (grad != 0).equal(result != 0)
    assert (result == 0).all() == (function is not SF.halfshrink)  # which jumps to 2λ/3


def test_halfshrink_jumps_to_two_thirds_of_its_cutoff():
    edge = torch.tensor([1.0, np.nextafter(1.0, 2)], dtype=torch.float64)
    torch.testing.assert_close(SF.halfshrink(edge, 1.0), torch.tensor([0.0, 2 / 3]).double())


def test_one_sided_soft_is_a_shifted_relu():
    got = SF.softshrink(SAMPLE, 0.5, sides="positive", zero_other=True)
    torch.testing.assert_close(got, F.relu(SAMPLE - 0.5))


def test_sigmoid_gate_converges_to_hardshrink():
    x = SAMPLE[(SAMPLE.abs() - 0.5).abs() > 0.01]
    torch.testing.assert_close(
        SF.sigmoid_gate(x, 0.5, 1e-4), SF.hardshrink(x, 0.5), rtol=1e-6, atol=1e-6
    )
    with pytest.raises(ValueError, match="temperature"):
        SF.sigmoid_gate(x, 0.5, 0.0)
