"""Nets whose example input shows less than other inputs: equal outputs, or kept with a reason."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sparsact as sa

C = 8
TOKENS = [(3, 7, 4), (1, 1, 4), (2, 5, 4)]


class Net(nn.Module):
    """Two or three linear layers around one operation."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.up, self.mid, self.down = nn.Linear(4, C), nn.Linear(C, C), nn.Linear(C, 3)
        self.zero = nn.Parameter(torch.zeros(1))
        self.position = nn.Parameter(torch.randn(9, C))

    def forward(self, x):
        return self.down(self.way(self, self.mid(F.relu(self.up(x)))))


def fill_first(net, h):
    h[:, 0] = 0
    return h


def scale_first(net, h):
    h[:, :1] *= net.zero
    return h


def shift_into_zeros(net, h):
    out = torch.zeros_like(h)
    out[:, 1:] = h[:, :-1]
    return out


def mask_first(net, h):
    mask = torch.zeros(h.shape[1], 1)
    mask[1:] = 1
    return h * mask


def strict_attention(net, h):
    later = torch.tril(torch.ones(h.shape[1], h.shape[1]), -1)
    return (h @ h.transpose(1, 2) * later) @ h


def branch_on_values(net, h):
    return 2 * h if torch.equal(h, h.abs()) else h


WAYS = {
    "pad": lambda net, h: F.pad(h, (0, 0, 1, -1)),
    "fill": fill_first,
    "scale": scale_first,
    "shift": shift_into_zeros,
    "mask": mask_first,
    "attention": strict_attention,
    "branch": branch_on_values,
    "power": lambda net, h: torch.sigmoid(h) ** h.shape[1],
    "clamp": lambda net, h: h.clamp(min=h.shape[1] / 4),
    "lerp": lambda net, h: torch.lerp(h, h.tanh(), 1 / h.shape[1]),
    "integer": lambda net, h: h.int().float(),
    "position": lambda net, h: h + (net.position * (net.zero + 1))[: h.shape[1]],
    "logarithm": lambda net, h: torch.exp(torch.log(F.relu(h))),
    "sum": lambda net, h: torch.einsum("btc->bc", h),
    "batch": lambda net, h: h + h.sum(0, keepdim=True),
    "length": lambda net, h: h / torch.tensor(float(h.shape[1])),
    "normalize": lambda net, h: F.normalize(h, dim=1),
}


def pruned(model, example):
    original = copy.deepcopy(model.eval())
    return original, sa.prune_zero_units(model, example)


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_short_example_proves_nothing_about_longer_inputs(way, length, bias):
    torch.manual_seed(0)
    model = Net(WAYS[way])
    with torch.no_grad():
        for layer in (model.up, model.mid):
            layer.weight[:4] = 0
            layer.bias[:4] = bias
        model.position[:3] = 0
    original, report = pruned(model, torch.randn(1, length, 4))
    assert report.removed or report.kept
    assert all(report.kept.values())
    for shape in TOKENS:
        x = torch.randn(shape)
        torch.testing.assert_close(model(x), original(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_padding_modes(padding_mode, bias):
    torch.manual_seed(0)
    second = nn.Conv2d(C, C, 3, padding=1, padding_mode=padding_mode)
    model = nn.Sequential(nn.Conv2d(2, C, 1), nn.ReLU(inplace=True), second, nn.Conv2d(C, 2, 1))
    with torch.no_grad():
        model[0].weight[:4] = 0
        model[0].bias[:4] = bias
    original, report = pruned(model, torch.randn(1, 2, 5, 6))
    keeps = padding_mode == "zeros" and bias != 0
    assert report.removed == ({} if keeps else {"0": 4})
    x = torch.randn(2, 2, 9, 7)
    torch.testing.assert_close(model(x), original(x), rtol=1e-5, atol=1e-5)


def test_a_divisor_of_the_pool_scales_constants():
    model = nn.Sequential(
        nn.Conv2d(2, C, 1), nn.AvgPool2d(2, divisor_override=1), nn.Conv2d(C, 2, 1)
    )
    with torch.no_grad():
        model[0].weight[:4] = 0
    _, report = pruned(model, torch.randn(1, 2, 6, 6))
    assert "avg_pool2d" in report.kept["0"]


def test_parameters_of_one_memory_keep_their_size():
    base = torch.randn(2 * C, C)
    model = nn.Sequential(*(nn.Linear(C, C) for _ in range(3)))
    model[0].weight, model[1].weight = nn.Parameter(base[:C]), nn.Parameter(base[C:])
    with torch.no_grad():
        model[0].weight[:4] = 0
        model[0].bias[:4] = 0
    _, report = pruned(model, torch.randn(2, C))
    assert not report.removed
    assert "shares its memory with 1.weight" in report.kept["0"]


def test_a_tied_parameter_stays_tied():
    model = nn.Sequential(nn.Linear(4, C), nn.ReLU(), *(nn.Linear(C, C) for _ in range(2)))
    model[3].weight = model[2].weight
    with torch.no_grad():
        model[0].weight[:4] = 0
        model[0].bias[:4] = 0
        model[2].weight[:, :4] = 0
        model[2].weight[:4] = 0
        model[2].bias[:4] = 0
    model.append(nn.Linear(C, 2))
    x = torch.randn(5, 4)
    original, report = pruned(model, x[:1])
    assert model[2].weight is model[3].weight
    assert report.removed or report.kept
    torch.testing.assert_close(model(x), original(x))


def test_two_calls_of_a_layer_with_other_constants_keep_its_units():
    torch.manual_seed(0)
    shared = nn.Linear(C, C)
    model = nn.Sequential(nn.Linear(4, C), nn.Sigmoid(), shared, nn.ReLU(), shared, nn.Linear(C, 2))
    with torch.no_grad():
        model[0].weight[:4] = 0
        shared.weight[:4] = 0
        shared.bias[:4] = -1
    _, report = pruned(model, torch.randn(1, 4))
    assert not report.removed
    assert "'2'" in report.kept["0"]


class WithOutputs(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.up, self.down, self.kind = nn.Linear(4, C), nn.Linear(C, 3), kind

    def forward(self, x):
        h = self.up(x)
        holder = type("Output", (), {})()
        holder.hidden = self.kind(h)
        return self.down(h), holder


@pytest.mark.parametrize("kind", [lambda h: h, lambda h: h > 0, lambda h: torch.complex(h, h)])
def test_outputs_of_any_dtype_in_any_object_keep_their_units(kind):
    model = WithOutputs(kind)
    with torch.no_grad():
        model.up.weight[:4] = 0
        model.up.bias[:4] = 0
    _, report = pruned(model, torch.randn(2, 4))
    assert not report.removed
    assert "up" in report.kept


def test_imaginary_weights_are_not_zero():
    model = nn.Sequential(*(nn.Linear(C, C, bias=False, dtype=torch.cfloat) for _ in range(3)))
    with torch.no_grad():
        model[0].weight[:4] = 0
        model[1].weight.copy_(1j * torch.randn(C, C))
    x = torch.randn(3, C, dtype=torch.cfloat)
    original, report = pruned(model, x[:1])
    assert report.removed == {"0": 4}
    torch.testing.assert_close(model(x), original(x))


def test_a_layer_that_did_not_run_says_so():
    model = Net(lambda net, h: h)
    model.other = nn.Linear(C, C)
    with torch.no_grad():
        model.other.weight[0] = 0
    _, report = pruned(model, torch.randn(1, 2, 4))
    assert report.kept == {"other": "'other' did not run on the example"}
