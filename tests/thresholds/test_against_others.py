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


def test_firm_between_hard_and_soft_entry_by_entry():
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


def test_firm_gradient_to_both_bounds():
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


@pytest.mark.parametrize("upper", [0.4, float("nan"), torch.tensor([1.0, 0.4, 1.0])])
def test_firm_refuses_an_upper_bound_below_lambda(upper):
    with pytest.raises(ValueError, match="upper >= lambd"):
        SF.firmshrink(torch.ones(3), 0.5, upper)
    with pytest.raises(ValueError, match="upper of shape"):
        SF.firmshrink(torch.ones(3), 0.5, torch.ones(2))


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


@pytest.mark.parametrize("beta", [0.5, 1.0, 10.0])
def test_softplus_equals_torch_below_its_cutoff(beta):
    x = SAMPLE.clone().requires_grad_()
    torch.testing.assert_close(SF.softplus(x, beta), F.softplus(x, beta, threshold=1000))
    (got,) = torch.autograd.grad(SF.softplus(x, beta).sum(), x)
    torch.testing.assert_close(got, torch.sigmoid(beta * x))


def test_softplus_has_no_jump_at_torchs_cutoff():
    below, above = torch.tensor([19.999, 20.001], dtype=torch.float64)
    assert SF.softplus(above) - SF.softplus(below) > 0.002 - 1e-9
    assert F.softplus(above) == above  # torch drops the term there
    assert SF.softplus(above) > above


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e4, 1e30])
def test_softplus_never_overflows(dtype, beta):
    limit = torch.finfo(dtype).max
    x = torch.tensor([-limit, -50.0, 0.0, 50.0, limit], dtype=dtype)
    result = SF.softplus(x, beta)
    assert result.isfinite().all()
    assert (result >= 0).all()
    assert result[-1] == limit


def test_softplus_gradient_to_beta():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    beta = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SF.softplus, (x, beta))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), torch.tensor(0.0)])
def test_softplus_refuses_a_bad_beta(beta):
    with pytest.raises(ValueError, match="beta"):
        SF.softplus(torch.ones(2), beta)


def test_topk_against_a_sort():
    x = torch.randn(50, 20)
    got = SF.topk(x, 4)
    for row, kept in zip(x, got, strict=True):
        largest = row.sort(descending=True).values[:4].relu()
        assert kept[kept != 0].sort(descending=True).values.equal(largest[largest > 0])
    magnitude = SF.topk(x, 4, by="magnitude")
    assert ((magnitude != 0).sum(-1) == 4).all()
    assert magnitude[magnitude != 0].equal(x[magnitude != 0])


def test_topk_ties_and_extremes():
    assert (SF.topk(torch.ones(10), 3) != 0).sum() == 3
    assert SF.topk(torch.ones(4), 0).equal(torch.zeros(4))
    assert SF.topk(torch.ones(4), 9).equal(torch.ones(4))
    assert SF.topk(-torch.ones(4), 2).equal(torch.zeros(4))


def test_topk_dims_and_mask():
    x = torch.randn(3, 6, 4)
    assert SF.topk(x, 2, dim=1).equal(SF.topk(x, 2, dim=-2))
    mask = torch.arange(6) % 2 == 0
    rows = torch.rand(5, 6) + 1
    kept = SF.topk(rows, 2, mask=mask, zero_other=True)
    assert kept[:, 1::2].equal(torch.zeros(5, 3))
    assert ((kept != 0).sum(-1) == 2).all()
    passed = SF.topk(rows, 2, mask=mask)
    assert passed[:, 1::2].equal(rows[:, 1::2])


@pytest.mark.parametrize(
    ("k", "by", "error"),
    [
        (-1, "value", ValueError),
        (1.5, "value", TypeError),
        (True, "value", TypeError),
        (2, "size", ValueError),
    ],
)
def test_topk_refuses(k, by, error):
    with pytest.raises(error):
        SF.topk(torch.ones(3), k, by=by)


def test_clip_gradients_go_to_one_place_only():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    lambd = torch.tensor(1.0, requires_grad=True)
    grad_x, grad_lambd = torch.autograd.grad(
        SF.clip(x, lambd), [x, lambd], torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4])
    )
    assert grad_x.tolist() == [0, 0, 100, 0, 0]
    assert grad_lambd == 1e3 + 1e4 - 1 - 10


def test_clip_box_learns_both_bounds():
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
        {"lo": torch.tensor(2.0), "hi": 1.0},
    ],
)
def test_clip_refuses(keywords):
    with pytest.raises(ValueError, match=r"clip|NaN"):
        SF.clip(torch.ones(2), **keywords)


def test_clip_open_on_one_side():
    x = torch.tensor([-5.0, 5.0])
    assert SF.clip(x, hi=1.0).tolist() == [-5.0, 1.0]
    assert SF.clip(x, lo=0.0).tolist() == [0.0, 5.0]


@pytest.mark.parametrize("function", [SF.hardshrink, SF.jumprelu])
def test_straight_through_gradient_by_hand(function):
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


def test_sigmoid_gate_tends_to_hardshrink():
    x = SAMPLE[(SAMPLE.abs() - 0.5).abs() > 0.01]
    torch.testing.assert_close(
        SF.sigmoid_gate(x, 0.5, 1e-4), SF.hardshrink(x, 0.5), rtol=1e-6, atol=1e-6
    )
    with pytest.raises(ValueError, match="temperature"):
        SF.sigmoid_gate(x, 0.5, 0.0)
