"""Tests that are specific to one penalty."""

import math

import pytest
import torch
from torch import nn

import sparsact as sa


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
@pytest.mark.parametrize("cls", [sa.ElasticNet, sa.SparseGroupLasso])
def test_l1_ratio_must_be_between_0_and_1(cls, bad):
    with pytest.raises(ValueError, match=r"l1_ratio= must lie in \[0, 1\]"):
        cls(0.1, l1_ratio=bad)


@pytest.mark.parametrize("dim", [0, 1, -1, (0, 1), (1, 2, 3)])
def test_group_dims(dim):
    x = torch.randn(4, 3, 2, 2)
    dims = (dim,) if isinstance(dim, int) else dim
    size = math.prod(x.shape[d] for d in dims)
    norms = x.square().sum(dims).sqrt()
    torch.testing.assert_close(sa.GroupLasso(0.5, dim=dim)(x), 0.5 * size**0.5 * norms.sum())
    torch.testing.assert_close(sa.GroupLasso(0.5, dim=dim, scale="none")(x), 0.5 * norms.sum())


def test_group_size_cuts_a_dim_into_runs():
    x = torch.randn(6, 5)
    expected = x.reshape(3, 2, 5).norm(dim=1).sum()
    torch.testing.assert_close(sa.GroupLasso(1.0, dim=0, group_size=2, scale="none")(x), expected)
    pruned = sa.GroupLasso(1.0, dim=0, group_size=2, scale="none").prox(x, 1.2)
    groups = pruned.reshape(3, 2, 5)
    dead = x.reshape(3, 2, 5).norm(dim=1) <= 1.2
    assert 0 < dead.sum() < dead.numel()
    assert (groups == 0).all(1).equal(dead)


def test_group_errors_name_the_sizes():
    with pytest.raises(ValueError, match=r"4 does not divide dim -1 of size 6.*\(3, 6\)"):
        sa.GroupLasso(0.1, group_size=4)(torch.ones(3, 6))
    with pytest.raises(ValueError, match="dim=2 does not exist"):
        sa.GroupLasso(0.1, dim=2).prox(torch.ones(3, 6), 0.1)
    with pytest.raises(ValueError, match="group_size= must be at least 1"):
        sa.GroupLasso(0.1, group_size=0)
    with pytest.raises(ValueError, match="cuts one dim"):
        sa.SparseGroupLasso(0.1, dim=(0, 1), group_size=2)
    with pytest.raises(ValueError, match="scale= must be one of"):
        sa.GroupLasso(0.1, scale="root")


def test_sparse_group_equals_its_parts_at_l1_ratio_0_and_1():
    x = torch.randn(4, 6)
    torch.testing.assert_close(sa.SparseGroupLasso(0.3, l1_ratio=1.0)(x), sa.L1(0.3)(x))
    torch.testing.assert_close(sa.SparseGroupLasso(0.3, l1_ratio=0.0)(x), sa.GroupLasso(0.3)(x))


def test_l0_counts_the_entries_that_its_module_keeps():
    x = 2 * torch.randn(50, 8)
    for module in [
        sa.nn.JumpReLU(0.5),
        sa.nn.Hardshrink(0.5),
        sa.nn.Softshrink(0.5, sides="positive", zero_other=True),
    ]:
        assert sa.L0(1.0, threshold=module)(x).item() == module(x).count_nonzero()


def test_l0_straight_through_gradients():
    act = sa.nn.JumpReLU(0.5, learnable=True, bandwidth=0.2)
    x = torch.tensor([-0.55, 0.0, 0.45, 0.55, 0.59, 0.7], requires_grad=True)
    sa.L0(0.3, threshold=act)(x).backward()
    inside = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(x.grad, 0.3 * inside / 0.2)
    torch.testing.assert_close(act.lambd.grad, torch.tensor([-0.3 * 3 / 0.2]))
    both = torch.tensor([-0.55, 0.55, -0.9], requires_grad=True)
    sa.L0(1.0, threshold=0.5, bandwidth=0.2)(both).backward()
    torch.testing.assert_close(both.grad, torch.tensor([-5.0, 5.0, 0.0]))


def test_l0_on_the_input_of_its_jumprelu_raises_the_threshold():
    act = sa.nn.JumpReLU(0.5, learnable=True, num_parameters=8, channel_dim=-1, bandwidth=1.0)
    model = nn.Sequential(nn.Linear(4, 8), act)
    spec = {"1": sa.L0(0.1, threshold=act)}
    penalty = sa.ActivationPenalty(model, spec, "sum", on="input")
    x = torch.randn(64, 4)
    expected = 0.1 * float(act(model[0](x)).count_nonzero())
    model(x)
    value = penalty()
    assert value.item() == pytest.approx(expected)
    value.backward()
    assert act.lambd.grad is not None
    assert (act.lambd.grad < 0).all()


def test_l0_refuses_a_bad_threshold():
    with pytest.raises(ValueError, match="threshold= must be finite"):
        sa.L0(0.1, threshold=-1.0)
    with pytest.raises(ValueError, match="bandwidth= must be positive"):
        sa.L0(0.1, bandwidth=0.0)


@pytest.mark.parametrize("eps", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("level", [0.01, 0.09, 0.5, 4.0])
def test_log_sum_prox_on_both_sides_of_convexity(eps, level):
    grid = torch.linspace(0, 8, 80001, dtype=torch.float64)
    penalty = sa.LogSum(level, eps=eps)
    zeros = 0
    for point in torch.linspace(0, 7, 71, dtype=torch.float64):
        cost = 0.5 * (grid - point).square() + level * torch.log1p(grid / eps)
        got = penalty.prox(point, 1.0)
        cost_at_prox = 0.5 * (got - point).square() + level * torch.log1p(got / eps)
        assert cost_at_prox <= cost.min() + 1e-12
        zeros += int(got == 0)
    assert 0 < zeros < 71


def test_log_sum_refuses_a_zero_eps():
    with pytest.raises(ValueError, match="eps= must be positive"):
        sa.LogSum(0.1, eps=0.0)


def test_hoyer_of_one_hot_and_uniform_samples():
    one_hot, uniform = torch.eye(5)[:1], torch.full((1, 5), 0.3)
    assert sa.Hoyer(1.0)(one_hot).item() == pytest.approx(0, abs=1e-6)
    assert sa.Hoyer(1.0)(uniform).item() == pytest.approx(1)
    assert sa.HoyerSquare(1.0)(one_hot).item() == pytest.approx(1)
    assert sa.HoyerSquare(1.0)(uniform).item() == pytest.approx(5)
    for penalty in (sa.Hoyer(1.0), sa.HoyerSquare(1.0)):
        assert penalty(torch.zeros(3, 5)).item() == 0
        x = torch.randn(3, 5)
        torch.testing.assert_close(penalty(x), penalty(7 * x))


def test_hoyer_dims():
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(sa.Hoyer(1.0)(x), sa.Hoyer(1.0)(x.flatten(1)))
    torch.testing.assert_close(sa.Hoyer(1.0, dim=-1)(x), sa.Hoyer(1.0)(x.reshape(12, 5)))
    torch.testing.assert_close(
        sa.HoyerSquare(1.0, dim=(0, 1, 2))(x), sa.HoyerSquare(1.0)(x.reshape(1, 60))
    )
    with pytest.raises(ValueError, match=r"two entries or more.*\(3, 1\)"):
        sa.Hoyer(1.0)(torch.ones(3, 1))


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan])
def test_kl_refuses_values_outside_0_and_1(bad):
    x = torch.full((3, 4), 0.5)
    x[1, 2] = bad
    with pytest.raises(ValueError, match=r"expects values in \[0, 1\].*sigmoid"):
        sa.KLSparsity(0.1)(x)


def test_kl_is_zero_at_its_target_and_finite_at_0_and_1():
    assert sa.KLSparsity(1.0, rho=0.25)(torch.full((3, 4), 0.25)).item() == pytest.approx(0)
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    value = sa.KLSparsity(1.0, rho=0.25)(x)
    value.backward()
    assert value.isfinite()
    assert value > 1
    assert x.grad.isfinite().all()


def test_kl_averages_over_all_dims_but_the_units():
    x = torch.rand(3, 4, 5)
    torch.testing.assert_close(sa.KLSparsity(1.0)(x), sa.KLSparsity(1.0)(x.reshape(12, 5)))
    torch.testing.assert_close(sa.KLSparsity(1.0, unit_dim=1)(x), sa.KLSparsity(1.0)(x.mT))
    with pytest.raises(ValueError, match="rho= must lie strictly"):
        sa.KLSparsity(1.0, rho=0.0)


def test_smooth_l1_equals_torch():
    x = torch.randn(20, 8)
    for beta in (0.0, 0.2, 1.0):
        expected = nn.functional.smooth_l1_loss(x, torch.zeros_like(x), reduction="sum", beta=beta)
        torch.testing.assert_close(sa.SmoothL1(1.0, beta=beta)(x), expected)
    torch.testing.assert_close(sa.SmoothL1(0.3, beta=0.0).prox(x, 0.5), sa.L1(0.3).prox(x, 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("beta", [0.01, 1.0])
def test_smooth_l1_gradient_equals_torch_in_half_precision(dtype, beta):
    x = torch.tensor([1e-4, 1e-3, -1e-2, 0.0, 0.3, -1.0, 5.0], dtype=dtype, requires_grad=True)
    sa.SmoothL1(1.0, beta=beta)(x).backward()
    wide = x.detach().float().requires_grad_()
    expected = nn.functional.smooth_l1_loss(wide, torch.zeros(7), reduction="sum", beta=beta)
    (grad,) = torch.autograd.grad(expected, wide)
    torch.testing.assert_close(x.grad, grad.to(dtype))


@pytest.mark.parametrize("size", [1e-30, 1e-16, 1e-6, 1.0, 1e12, 1e20])
@pytest.mark.parametrize("level", [0.0, 1e-3, 0.4])
def test_group_shrinkage_by_entry_at_every_scale(size, level):
    """Scaling x and the level by a factor scales the prox by the same factor."""
    torch.manual_seed(0)
    x, steps = torch.randn(5, 6), torch.rand(5, 6) + 0.1
    x[0, 0] = x[1, 2] = 0
    penalty = sa.GroupLasso(level, dim=1, scale="none")
    small = penalty.prox(x.double(), steps.double())
    scaled = sa.GroupLasso(level * size, dim=1, scale="none").prox(x * size, steps)
    torch.testing.assert_close(scaled / size, small.float(), atol=1e-5, rtol=1e-4)


def test_group_shrinkage_by_entry_with_steps_far_apart():
    """Against the root computed by bisection."""
    x, steps = torch.tensor([[1.0, 1.0, 0.0, 1e-9]]), torch.tensor([[2.0, 1e-20, 1.0, 1e-9]])
    wide, level = x.double(), steps.double()
    low, high = torch.tensor(0.0).double(), torch.tensor(10.0).double()
    for _ in range(200):
        middle = (low + high) / 2
        if (wide / (middle + level)).square().sum() > 1:
            low = middle
        else:
            high = middle
    result = sa.GroupLasso(1.0, dim=1, scale="none").prox(x, steps)
    torch.testing.assert_close(result.double(), wide * low / (low + level), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("penalty", [sa.LogSum(0.5), sa.L0(0.5, threshold=0.3)], ids=repr)
@pytest.mark.versions
def test_under_vmap(penalty):
    x = 0.3 + 0.02 * torch.randn(4, 5)
    result = torch.func.vmap(torch.func.grad(penalty))(x)
    one_by_one = torch.stack([torch.func.grad(penalty)(row) for row in x])
    torch.testing.assert_close(result, one_by_one)
    assert result.any()


def test_activity_penalty_trains_a_threshold_even_if_its_input_needs_no_gradient():
    act = sa.nn.JumpReLU(0.5, learnable=True)
    model = nn.Sequential(sa.nn.ActivityPenalty(sa.L0(1.0, threshold=act), "sum"), act)
    grads = []
    for needs in (False, True):
        model(torch.full((2, 3), 0.51, requires_grad=needs)).sum().backward()
        grads.append(act.lambd.grad)
        act.lambd.grad = None
    assert grads[0].equal(grads[1])


@pytest.mark.parametrize("strength", [0.05, 0.4, 1.4, 1.6, 2.5, 3.1, 9.0])
@pytest.mark.parametrize("shape", [(0.5, 1.6), (0.5, 3.0), (0.8, 2.2)])
@pytest.mark.parametrize("kind", ["MCP", "SCAD"])
def test_concave_prox_with_every_strength(kind, shape, strength):
    """Also where the objective is concave, which one step of the table does not reach."""
    lambd, knee = shape
    if kind == "SCAD":
        knee = max(knee, 2.1)

    def terms(y):
        if kind == "MCP":
            return torch.where(
                y <= knee * lambd, lambd * y - y * y / (2 * knee), knee * lambd**2 / 2
            )
        middle = (2 * knee * lambd * y - y * y - lambd**2) / (2 * (knee - 1))
        outer = torch.where(y <= knee * lambd, middle, lambd**2 * (knee + 1) / 2)
        return torch.where(y <= lambd, lambd * y, outer)

    penalty = getattr(sa, kind)(1.0, lambd, knee)
    points = torch.linspace(0, 6, 241, dtype=torch.float64)
    grid = torch.linspace(0, 6, 6001, dtype=torch.float64)
    costs = (grid - points[:, None]).square() / 2 + strength * terms(grid)
    result = penalty.prox(points, strength)
    cost = (result - points).square() / 2 + strength * terms(result)
    assert (cost <= costs.amin(1) + 1e-12).all()
    assert 0 < (result == 0).sum() < 241
    by_entry = penalty.prox(points, torch.full_like(points, strength))
    torch.testing.assert_close(by_entry, result)
    assert penalty.prox(-points, strength).equal(-result)


def test_concave_penalties_belong_to_their_thresholds():
    x = 2 * torch.randn(500, dtype=torch.float64)
    SF = sa.functional
    torch.testing.assert_close(sa.MCP(1.0, 0.5, 3.0).prox(x, 1.0), SF.firmshrink(x, 0.5, 1.5))
    torch.testing.assert_close(sa.SCAD(1.0, 0.5).prox(x, 1.0), SF.scad(x, 0.5))
    cut_off = 1.5 * 0.3 ** (2 / 3)
    torch.testing.assert_close(sa.LHalf(0.3).prox(x, 1.0), SF.halfshrink(x, cut_off))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sa.MCP(1.0, lambd=0.0), "lambd= must be positive"),
        (lambda: sa.MCP(1.0, gamma=math.inf), "gamma= must be positive"),
        (lambda: sa.SCAD(1.0, lambd=-1.0), "lambd= must be positive"),
        (lambda: sa.SCAD(1.0, a=2.0), "a= must be above 2"),
    ],
)
def test_concave_penalties_refuse_bad_shapes(build, message):
    with pytest.raises(ValueError, match=message):
        build()
