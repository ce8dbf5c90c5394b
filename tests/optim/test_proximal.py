"""Proximal steps: the optima of convex problems, and the API of an optimizer."""

import copy
import pickle

import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso
from torch import nn

import sparsact as sa
from cases import PENALTIES, by_name
from sparsact.optim import Proximal

SGD, Adam = torch.optim.SGD, torch.optim.Adam


def diabetes():
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.from_numpy(x) * 442**0.5, torch.from_numpy(y)
    return x, y - y.mean()


def fit(penalty, build, steps=4000):
    """The weight that minimises ``½·mean square + penalty``."""
    x, y = diabetes()
    model = nn.Linear(10, 1, bias=False, dtype=torch.float64)
    optimizer = Proximal(build(model.parameters()), model, {"weight": penalty})
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (model(x)[:, 0] - y).square().mean()).backward()
        optimizer.step()
    return model.weight.detach()[0], optimizer


def sgd(parameters):
    return SGD(parameters, lr=0.2)


def momentum(parameters):
    return SGD(parameters, lr=0.02, momentum=0.9)


def damped(parameters):
    return SGD(parameters, lr=0.1, momentum=0.5, dampening=0.3)


def nesterov(parameters):
    return SGD(parameters, lr=0.02, momentum=0.9, nesterov=True)


@pytest.mark.parametrize("build", [sgd, momentum, damped, nesterov])
@pytest.mark.parametrize("alpha", [1.0, 10.0])
def test_lasso_equals_scikit_learn(build, alpha):
    x, y = diabetes()
    expected = Lasso(alpha, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(x, y).coef_
    got, optimizer = fit(sa.L1(alpha), build)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=0, atol=1e-4)
    assert (got == 0).tolist() == (expected == 0).tolist()
    assert 0 < optimizer.nonzero()["weight"] == (expected != 0).sum() < 10


@pytest.mark.parametrize("build", [sgd, momentum])
def test_elastic_net_equals_scikit_learn(build):
    x, y = diabetes()
    expected = ElasticNet(2.0, l1_ratio=0.9, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = expected.fit(x, y).coef_
    got, _ = fit(sa.ElasticNet(2.0, l1_ratio=0.9), build)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=0, atol=1e-4)
    assert (got == 0).tolist() == (expected == 0).tolist()
    assert (expected == 0).any()


@pytest.mark.parametrize(
    "build",
    [
        lambda p: Adam(p, lr=0.5),
        lambda p: Adam(p, lr=0.5, amsgrad=True),
        lambda p: torch.optim.AdamW(p, lr=0.5, weight_decay=0.0),
        lambda p: torch.optim.RMSprop(p, lr=0.05, momentum=0.5),
        lambda p: torch.optim.RMSprop(p, lr=0.005, centered=True),
        lambda p: torch.optim.Adagrad(p, lr=20.0),
    ],
    ids=["Adam", "amsgrad", "AdamW", "RMSprop", "centered", "Adagrad"],
)
def test_adaptive_optimizers_reach_the_same_lasso(build):
    x, y = diabetes()
    expected = Lasso(10.0, fit_intercept=False, tol=1e-14).fit(x, y).coef_
    got, _ = fit(sa.L1(10.0), build, steps=2500)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=0, atol=1e-2)
    assert (got == 0).tolist() == (expected == 0).tolist()


@pytest.mark.parametrize("build", [sgd, momentum, lambda p: Adam(p, lr=0.5)])
def test_group_lasso_is_optimal(build):
    """0 lies in the subdifferential: −∇ = c·w_g/‖w_g‖ in live groups, ‖∇_g‖ ≤ c in dead ones."""
    x, y = diabetes()
    level = 12.0
    weight, _ = fit(sa.GroupLasso(level, group_size=2, scale="none"), build)
    gradient = x.T @ (x @ weight - y) / len(y)
    groups, gradients = weight.reshape(5, 2), gradient.reshape(5, 2)
    norms = groups.norm(dim=1)
    live = norms > 0
    assert 0 < live.sum() < 5
    assert (gradients[~live].norm(dim=1) <= level).all()
    residual = gradients[live] + level * groups[live] / norms[live, None]
    assert residual.abs().max() <= 1e-6


JOINT = (sa.SLOPE, sa.OSCAR, sa.TotalVariation, sa.OverlappingGroupLasso)
"""Their prox takes one step for all entries."""


@pytest.mark.parametrize("case", [c for c in PENALTIES if c.proximal], ids=by_name)
def test_prox_with_a_step_per_entry(case):
    """Brute force over the pairs of entries that a penalty moves together."""
    if isinstance(case.penalty, JOINT):
        with pytest.raises(ValueError, match="step"):
            case.penalty.prox(torch.ones(1, 2), torch.tensor([[0.2, 1.5]]))
        return
    axis = torch.cat([torch.linspace(-3, 3, 301), torch.tensor(case.kinks)]).double()
    grid = torch.cartesian_prod(axis, axis)
    step = torch.tensor([[0.2, 1.5]], dtype=torch.float64)
    for x in torch.tensor([[0.0, 0.4], [0.3, -0.35], [1.0, 2.5], [-1.6, 0.1]]).double():
        got = case.penalty.prox(x[None], step)
        costs = [
            (0.5 * (u - x).square() / step).sum(1) + case.terms(u).reshape(len(u), -1).sum(1)
            for u in (got, torch.cat([grid, x[None]]))
        ]
        assert costs[0].item() <= costs[1].min().item() + 1e-12
    same = torch.full((4, 6), 0.3, dtype=torch.float64)
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(case.penalty.prox(x, same), case.penalty.prox(x, 0.3))


def small(penalty=None, build=sgd):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    spec = {"*.weight": penalty or sa.L1(0.01)}
    return model, Proximal(build(model.parameters()), model, spec)


def run(model, optimizer, steps=3):
    x = torch.linspace(-1, 1, 24).reshape(6, 4)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def test_each_group_has_its_own_step_size():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    groups = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": model[1].parameters(), "lr": 0.3, "momentum": 0.5},
    ]
    optimizer = Proximal(SGD(groups), model, {"*.weight": sa.L1(0.2)})
    before = [layer.weight.detach().clone() for layer in model]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for layer, weight, step in zip(model, before, (0.1, 0.6), strict=True):
        torch.testing.assert_close(layer.weight, sa.L1(0.2).prox(weight, step))


def test_parameters_without_gradient_or_pattern_do_not_change():
    model, optimizer = small(sa.L1(1000.0))
    before = [p.detach().clone() for p in model.parameters()]
    model[0](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert optimizer.nonzero() == {"0.weight": 0, "2.weight": 16}
    assert model[2].weight.equal(before[2])
    torch.testing.assert_close(model[0].bias, before[1] - 0.2)


@pytest.mark.parametrize("build", [sgd, lambda p: Adam(p, lr=0.1)])
def test_state_dict_continues_training(build, tmp_path):
    penalty = sa.L1(sa.LinearWarmup(0.1, steps=10))
    torch.manual_seed(0)
    model, optimizer = small(penalty, build)
    run(model, optimizer)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    expected = run(model, optimizer)
    new_model, resumed = small(penalty, build)
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    new_model.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    for a, b in zip(run(new_model, resumed), expected, strict=True):
        assert a.equal(b)
    plain = build(new_model.parameters())
    plain.load_state_dict(states[1])
    resumed.load_state_dict(plain.state_dict())


def test_schedulers_also_change_the_step_size():
    model, optimizer = small(sa.L1(0.5))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.0)
    run(model, optimizer, 1)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0
    before = [p.detach().clone() for p in model.parameters()]
    for a, b in zip(run(model, optimizer, 2), before, strict=True):
        assert a.equal(b)


def test_closures_and_grad_scaler():
    model, optimizer = small()
    x = torch.ones(2, 4)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first
    scaler = torch.amp.GradScaler("cpu")
    before = model[0].weight.detach().clone()
    optimizer.zero_grad()
    scaler.scale(model(x).square().mean() * float("inf")).backward()
    scaler.step(optimizer)
    assert model[0].weight.equal(before)  # a step that is skipped does not shrink either


def test_grad_scaler_unscales_for_a_fused_optimizer():
    weights = []
    for fused in (False, True):
        torch.manual_seed(0)
        model, optimizer = small(build=lambda p, fused=fused: SGD(p, lr=0.2, fused=fused))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        scaler.scale(model(torch.ones(2, 4)).square().mean()).backward()
        scaler.step(optimizer)
        weights.append(model[0].weight.detach())
    torch.testing.assert_close(*weights)


def test_is_an_optimizer():
    model, optimizer = small()
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.defaults["lr"] == 0.2
    calls = []
    optimizer.register_step_post_hook(lambda opt, args, kwargs: calls.append(opt))
    run(model, optimizer, 2)
    assert calls == [optimizer.optimizer] * 2
    extra = nn.Parameter(torch.ones(1))
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    assert optimizer.param_groups[1]["lr"] == 0.5
    assert repr(optimizer).startswith("Proximal(SGD")


def test_copies_and_pickles():
    model, optimizer = small()
    run(model, optimizer)
    for copier in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        twin_model, twin = copier((model, optimizer))
        assert twin.nonzero() == optimizer.nonzero()
        before = twin_model[0].weight.detach().clone()
        run(twin_model, twin, 1)
        assert not twin_model[0].weight.equal(before)


def test_a_copy_of_a_scheduled_optimizer_steps_its_own_model():
    """A scheduler replaces `step` by a function that is bound to the optimizer."""
    model, optimizer = small()
    torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for copier in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        twin_model, twin = copier((model, optimizer))
        before = model[0].weight.detach().clone()
        run(twin_model, twin, 1)
        assert model[0].weight.equal(before)
        assert not twin_model[0].weight.equal(before)


def test_an_unknown_optimizer_needs_step_size():
    model = nn.Linear(3, 2)
    inner = torch.optim.Rprop(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"no step size is known for Rprop: pass step_size="):
        Proximal(inner, model, {"weight": sa.L1(0.1)})
    optimizer = Proximal(
        inner, model, {"weight": sa.L1(1e6)}, step_size=lambda group, state: group["lr"]
    )
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert optimizer.nonzero() == {"weight": 0}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"wieght": sa.L1(0.1)}, "did you mean 'weight'"),
        ({"weight": sa.Hoyer(0.1)}, "Hoyer on 'weight' has no proximal operator"),
        ({"weight": sa.L1(0.1), "*": sa.L2(0.1)}, "one parameter takes one"),
        ({"bias": sa.L1(0.1)}, "parameter 'bias' is not in the optimizer"),
    ],
)
def test_bad_specs(spec, message):
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=message):
        Proximal(SGD([model.weight], lr=0.1), model, spec)
