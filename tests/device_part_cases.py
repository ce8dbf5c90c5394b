"""Every public entry point that takes tensors or a model, as a row for the tests of devices."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import sparsact as sa
from cases import MODULES, PENALTIES, PLAIN, THRESHOLDS

Move = Callable[[Any], Any]
"""Puts a module or nested tensors on the device under test."""

CASES: dict[str, Callable[[Move], Any]] = {}
"""Name → what runs it: it makes its inputs on the CPU, moves them, and returns tensors."""


def case(function: Callable[[Move], Any], name: str | None = None) -> Callable[[Move], Any]:
    CASES[name or function.__name__] = function
    return function


def with_gradient(function: Callable[..., Tensor], *inputs: Tensor) -> Any:
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    y = function(*inputs)
    return y, torch.autograd.grad(y.square().sum(), inputs, allow_unused=True)


for _threshold in THRESHOLDS:

    def _run(move: Move, threshold: Any = _threshold) -> Any:
        level = torch.linspace(0.1, 0.8, 6)
        fixed = threshold(move(torch.randn(8, 6)))
        return fixed, with_gradient(threshold, move(torch.randn(8, 6)), move(level))

    CASES[f"functional.{_threshold.name}"] = _run

for _plain in PLAIN:

    def _run(move: Move, plain: Any = _plain) -> Any:
        return with_gradient(plain.function, move(torch.randn(8, 6)))

    CASES[f"functional.{_plain.name}"] = _run

for _module in MODULES:

    def _run(move: Move, make: Any = _module.build) -> Any:
        module = move(make())
        return with_gradient(module, move(torch.randn(3, 2, 8))), list(module.parameters())

    CASES[f"nn.{_module.name}"] = _run

for _penalty in PENALTIES:

    def _run(move: Move, penalty: Any = _penalty) -> Any:
        x = move(penalty.domain(torch.randn(6, 2)) if penalty.domain else torch.randn(6, 2))
        pair = with_gradient(penalty.penalty, x)
        return pair, penalty.penalty.prox(x, 0.3) if penalty.proximal else None

    CASES[f"penalties.{_penalty.name}"] = _run

for _gate in (sa.nn.ReluGate, sa.nn.HardConcrete, sa.nn.GaussianGate):

    def _run(move: Move, gate: Any = _gate) -> Any:
        module = move(gate(num_parameters=4, channel_dim=-1)).eval()
        return with_gradient(module, move(torch.randn(8, 4)))

    CASES[f"nn.{_gate.__name__}"] = _run


@case
def nuclear_norm(move: Move) -> Any:
    x = move(torch.randn(5, 4))
    return with_gradient(sa.NuclearNorm(0.3), x), sa.NuclearNorm(0.3).prox(x, 0.2)


@case
def threshold_from_data(move: Move) -> Any:
    module = move(sa.nn.Softshrink(0.1, learnable=True, num_parameters=4, channel_dim=-1))
    module.init_from(move(torch.randn(50, 4)), sparsity=0.7)
    return module.lambd


def _network(move: Move) -> tuple[nn.Module, Tensor]:
    layers = [nn.Linear(6, 8), sa.nn.Softshrink(0.1, learnable=True), nn.Linear(8, 3), nn.ReLU()]
    return move(nn.Sequential(*layers)), move(torch.randn(5, 6))


@case
def sparsity_meter(move: Move) -> Any:
    model, x = _network(move)
    with sa.SparsityMeter(model, ["1", "3"]) as meter:
        for scale in (1, 3, 9):
            model(scale * x).sum().backward()
    return [
        (torch.tensor(stats.histogram.counts), stats.unit_density, torch.tensor(stats.density))
        for stats in meter.compute().values()
    ]


@case
def activation_penalty(move: Move) -> Any:
    model, x = _network(move)
    penalties = {"1": sa.L1(0.1), "3": sa.GroupLasso(0.1), "0": sa.Hoyer(0.1)}
    with sa.ActivationPenalty(model, penalties) as penalty:
        (model(x).sum() + penalty()).backward()
    return [parameter.grad for parameter in model.parameters()]


@case
def weight_penalty(move: Move) -> Any:
    model, _ = _network(move)
    total = sa.WeightPenalty(model, {"*.weight": sa.L2(0.1)})()
    total.backward()
    return total, model[0].weight.grad


@case
def proximal(move: Move) -> Any:
    model, x = _network(move)
    penalties = {"0.weight": sa.L1(0.1), "2.weight": sa.GroupLasso(0.1)}
    optimizer = sa.optim.Proximal(torch.optim.Adam(model.parameters(), 0.1), model, penalties)
    for _ in range(2):
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.nonzero()
    return list(model.parameters())


@case
def target_density(move: Move) -> Any:
    model, x = _network(move)
    control = sa.TargetDensity(model, {"1": 0.3})
    for _ in range(3):
        (model(x).square().sum() + control()).backward()
        control.step()
    return list(model.parameters())


@case
def activations(move: Move) -> Any:
    model, x = _network(move)
    return torch.tensor([site.density for site in sa.activations(model, x)])


@case
def swap(move: Move) -> Any:
    model, x = _network(move)
    sa.swap(model, nn.ReLU, lambda old: move(sa.nn.JumpReLU(0.2)))
    return model(x)


@case
def prune_zero_units(move: Move) -> Any:
    model, x = _network(move)
    with torch.no_grad():
        model[0].weight[2:5] = 0
        model[0].bias[2:5] = 0
    sa.prune_zero_units(model, x)
    return model(x), list(model.parameters())


@case
def prune_a_network_of_every_kind(move: Move) -> Any:
    """Convolutions of any kind, norms, attention, gates and a learned threshold."""
    from torch.nn import functional as F

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, groups=2)
            self.norm, self.last = nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 4, 2)
            self.act = sa.nn.Softshrink(0.1, True, num_parameters=6)
            self.embed, self.gate = nn.Embedding(5, 8), nn.Linear(8, 8)
            self.down, self.layer_norm = nn.Linear(8, 4), nn.LayerNorm(4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor, ids: Tensor) -> Tensor:
            pixels = self.act(self.norm(self.first(x)))
            pixels = self.last(F.max_pool2d(self.second(pixels).relu(), 2)).flatten(2).mT
            words = self.embed(ids)
            words = self.layer_norm(self.down(words * self.gate(words).sigmoid()))
            mixed = self.attention(words, words, words)[0]
            return torch.cat([pixels, mixed], 1).softmax(-1)

    model = move(Network().eval())
    x, ids = move(torch.randn(2, 2, 8, 8)), move(torch.randint(5, (2, 7)))
    with torch.no_grad():
        for parameter, rows in ((model.first.weight, [0, 3]), (model.gate.weight, [2, 5])):
            parameter[rows] = 0
        model.first.bias[[0, 3]] = 0
        model.down.weight[:, [1, 4]] = 0
    sa.prune_zero_units(model, (x, ids))
    return model(x, ids), list(model.parameters())


@case
def feature_kernels(move: Move) -> Any:
    from sparsact import kernels

    x, weight, bias = (move(torch.randn(*size)) for size in ((5, 8), (16, 8), (16,)))
    values, indices = kernels.linear_topk(x, weight, bias, 4)
    entries = kernels.linear_threshold(x, weight, bias, 0.5)
    decoder = move(torch.randn(16, 8))
    rows = kernels.csr_linear(entries, decoder)
    both = with_gradient(
        lambda values, decoder: kernels.csr_linear((values, indices), decoder), values, decoder
    )
    return values, indices, rows, both


@case
def linear_kernels(move: Move) -> Any:
    from sparsact import kernels
    from sparsact.kernels.ops.sparse_grad_linear import sparse_grad_linear

    x, weight, bias = (move(torch.randn(*size)) for size in ((1, 8), (16, 8), (16,)))
    gathered = kernels.gather_linear(x, weight.t().contiguous(), 0.5, bias)
    return gathered, with_gradient(sparse_grad_linear, x, weight, bias)
