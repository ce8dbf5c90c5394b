"""The step size of every optimizer against the step that it takes."""

import pytest
import torch
from torch import nn, optim

import sparsact as sa
from sparsact.optim import Proximal
from sparsact.optim.step_sizes import steady_step, step_size_rule

ANY_GRADIENT = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "centered": lambda p: optim.RMSprop(p, lr=0.01, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
    "Adafactor": lambda p: optim.Adafactor(p, lr=0.01, weight_decay=0.0),
}
STEADY_GRADIENT = {
    **{name: build for name, build in ANY_GRADIENT.items() if name != "centered"},
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.6, dampening=0.2),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.6, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.0),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "NAdam": lambda p: optim.NAdam(p, lr=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.01),
    "Adamax": lambda p: optim.Adamax(p, lr=0.01),
    "RMSprop-momentum": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5),
    "Adadelta": lambda p: optim.Adadelta(p, lr=1.0),
}
OPTIMIZERS = STEADY_GRADIENT | {"centered": ANY_GRADIENT["centered"]}
builders = pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
NO_RULE = ["Rprop", "ASGD", "LBFGS", "SparseAdam", *(["Muon"] if hasattr(optim, "Muon") else [])]
takes_complex = pytest.mark.parametrize(
    "name", [name for name in OPTIMIZERS if name not in ("Adafactor", "centered")]
)


def follow(build, gradients, shape, dtype=torch.float64):
    """The last step of the optimizer, and the step that its size predicts."""
    weight = nn.Parameter(torch.randn(shape, dtype=dtype))
    optimizer = build([weight])
    for gradient in gradients:
        before, weight.grad = weight.detach().clone(), gradient.clone()
        optimizer.step()
    moved = before - weight.detach()
    rule = step_size_rule(optimizer)
    size = steady_step(rule, optimizer.param_groups[0], optimizer.state[weight], weight)
    if isinstance(size, torch.Tensor) and size.is_complex():
        gradient = torch.complex(gradient.real * size.real, gradient.imag * size.imag)
    else:
        gradient = gradient * size
    return moved, gradient


@pytest.mark.parametrize("shape", [(7,), (5, 4), (2, 3, 4)])
@pytest.mark.parametrize("build", ANY_GRADIENT.values(), ids=ANY_GRADIENT.keys())
def test_any_step_is_the_size_times_the_gradient(build, shape):
    moved, predicted = follow(build, torch.randn(6, *shape, dtype=torch.float64), shape)
    torch.testing.assert_close(moved, predicted, rtol=0.02, atol=1e-12)
    if build is not ANY_GRADIENT["Adafactor"]:  # its scale is that of the weight after the step
        torch.testing.assert_close(moved, predicted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3, 7, 300])
@pytest.mark.parametrize("name", STEADY_GRADIENT)
def test_a_steady_gradient_gives_a_step_of_the_size(name, steps):
    gradient = torch.randn(5, 4, dtype=torch.float64)
    moved, predicted = follow(STEADY_GRADIENT[name], [gradient] * steps, (5, 4))
    exact = name not in ("momentum", "nesterov", "RMSprop-momentum", "Adadelta", "Adafactor")
    if exact or steps == 300:
        rtol = {"Adadelta": 0.02, "Adafactor": 0.02, "RMSprop-momentum": 1e-3}.get(name, 1e-9)
        torch.testing.assert_close(moved, predicted, rtol=rtol, atol=0)


@takes_complex
def test_parts_of_complex_weights(name):
    gradient = torch.randn(5, dtype=torch.complex128)
    moved, predicted = follow(STEADY_GRADIENT[name], [gradient] * 200, (5,), torch.complex128)
    torch.testing.assert_close(moved, predicted, rtol=0.02, atol=0)


@takes_complex
def test_complex_weights_are_shrunk_in_the_metric_of_the_step(name):
    """Brute force: no point nearby has a smaller ``Σ ½(u − w)²/s + c·Σ|u|``."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(12, dtype=torch.complex128))
    inner = STEADY_GRADIENT[name]([model.weight])
    twin = nn.Parameter(model.weight.detach().clone())
    plain = STEADY_GRADIENT[name]([twin])
    optimizer = Proximal(inner, model, {"weight": sa.L1(0.8)})
    model.weight.grad = torch.randn(12, dtype=torch.complex128)
    twin.grad = model.weight.grad.clone()
    optimizer.step()
    plain.step()
    size = steady_step(step_size_rule(plain), plain.param_groups[0], plain.state[twin], twin)
    if not isinstance(size, torch.Tensor):
        size = torch.full((12,), complex(size, size))
    metric = torch.view_as_real(size.to(torch.complex128))
    u, w = model.weight.detach(), twin.detach()

    def cost(u):
        return (torch.view_as_real(u - w).square() / metric).sum(-1) / 2 + 0.8 * u.abs()

    spread = torch.logspace(-5, 0, 300, dtype=torch.float64)[:, None]
    points = torch.cat([u + spread * torch.randn(300, 12, dtype=torch.complex128), 0 * u[None]])
    assert (cost(points) >= cost(u) - 1e-9 * (1 + cost(u))).all()


def test_a_prox_that_the_metric_does_not_have_is_refused_at_once():
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(4, dtype=torch.complex64))
    with pytest.raises(
        ValueError, match="at parameter 'weight': LogSum has no prox in closed form"
    ):
        Proximal(optim.Adam(model.parameters()), model, {"weight": sa.LogSum(1.0)})
    Proximal(optim.SGD(model.parameters(), lr=0.1), model, {"weight": sa.LogSum(1.0)})
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="at parameter 'weight': dim=2 does not exist"):
        Proximal(optim.Adam(layer.parameters()), layer, {"weight": sa.GroupLasso(1.0, dim=2)})


@builders
def test_weights_become_zero_and_stay_finite(build):
    model = nn.Linear(6, 3)
    optimizer = Proximal(build(model.parameters()), model, {"weight": sa.L1(0.5)})
    x = torch.randn(20, 6)
    for _ in range(60):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert model.weight.isfinite().all()
    assert optimizer.nonzero()["weight"] < 18


@pytest.mark.parametrize("name", NO_RULE)
def test_optimizers_without_a_step_size_are_refused_by_name(name):
    model = nn.Linear(3, 2, bias=False)
    inner = getattr(optim, name)(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=rf"no step size is known for {name}: pass step_size=.*\("):
        Proximal(inner, model, {"weight": sa.L1(0.1)})
    Proximal(inner, model, {"weight": sa.L1(0.1)}, step_size=lambda group, state: group["lr"])
