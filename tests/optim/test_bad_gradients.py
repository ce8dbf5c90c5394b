"""A gradient that is NaN or infinite changes nothing."""

import copy

import pytest
import torch
from torch import nn, optim

import sparsact as sa
from sparsact.optim import Proximal

BUILDS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.5),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "foreach": lambda p: optim.Adam(p, lr=0.1, foreach=True),
    "fused": lambda p: optim.AdamW(p, lr=0.1, fused=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1),
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.1),
}
builds = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())
bad_values = pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])


def everything(model, optimizer):
    state = optimizer.state_dict()
    return copy.deepcopy([model.state_dict(), state["state"], state["proximal_steps"]])


def assert_equal(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=False)


def trained(build, steps=2):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    groups = [{"params": layer.parameters()} for layer in model]
    optimizer = Proximal(build(groups), model, {"*.weight": sa.L1(0.01)})
    for _ in range(steps):
        backward(model, optimizer)
        optimizer.step()
    return model, optimizer


def backward(model, optimizer):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    return loss


@builds
@bad_values
@pytest.mark.parametrize("name", ["0.weight", "1.weight", "1.bias"])
def test_nothing_changes_and_the_parameter_is_named(build, bad, name):
    model, optimizer = trained(build)
    before = everything(model, optimizer)
    backward(model, optimizer)
    model.get_parameter(name).grad.reshape(-1)[0] = bad
    with pytest.raises(ValueError, match=rf"NaN or infinity in the gradient of '{name}': the step"):
        optimizer.step()
    assert_equal(everything(model, optimizer), before)
    backward(model, optimizer)
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


@builds
def test_before_the_first_step_there_is_no_state(build):
    model, optimizer = trained(build, steps=0)
    backward(model, optimizer)
    model[0].weight.grad.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"gradient of '0\.weight'"):
        optimizer.step()
    assert not optimizer.state


def test_large_finite_gradients_are_taken():
    model, optimizer = trained(BUILDS["Adam"])
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3e38)
    optimizer.step()


@bad_values
def test_closures(bad):
    model, optimizer = trained(BUILDS["Adam"])
    before = everything(model, optimizer)

    def closure():
        loss = backward(model, optimizer)
        model[0].weight.grad[0, 0] = bad
        return loss

    with pytest.raises(ValueError, match=r"gradient of '0\.weight'"):
        optimizer.step(closure)
    assert_equal(everything(model, optimizer), before)


def test_a_line_search_that_fails_midway_is_undone():
    model = nn.Linear(4, 1)
    inner = optim.LBFGS(model.parameters(), lr=0.1, max_iter=5, line_search_fn="strong_wolfe")
    penalty = {"weight": sa.L1(0.01)}
    optimizer = Proximal(inner, model, penalty, step_size=lambda group, state: group["lr"])
    x, y = torch.randn(20, 4), torch.randn(20, 1)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        if calls == 12:
            model.weight.grad.fill_(torch.nan)
        return loss

    optimizer.step(closure)
    assert calls < 12
    calls = 9
    before = everything(model, optimizer)
    with pytest.raises(ValueError, match="gradient of 'weight'"):
        optimizer.step(closure)
    assert_equal(everything(model, optimizer), before)
    optimizer.step(closure)


def test_grad_scaler_skips_the_step():
    model, optimizer = trained(BUILDS["SGD"])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer.zero_grad()
    scaler.scale(model(torch.randn(8, 4)).square().mean()).backward()
    model[1].weight.grad.fill_(torch.inf)
    before = everything(model, optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert_equal(everything(model, optimizer), before)
    assert scaler.get_scale() == 2.0


def test_a_schedule_that_fails_leaves_the_weights():
    def schedule(step):
        if step == 2:
            raise RuntimeError("no coefficient for step 2")
        return 0.1

    model = nn.Linear(3, 1)
    optimizer = Proximal(optim.Adam(model.parameters()), model, {"weight": sa.L1(schedule)})
    for _ in range(2):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
    before = everything(model, optimizer)
    with pytest.raises(RuntimeError, match="no coefficient"):
        optimizer.step()
    assert_equal(everything(model, optimizer), before)
