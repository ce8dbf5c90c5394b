"""Random nets with random zeroed units: equal outputs for inputs that pruning has not seen."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sparsact as sa

C = 8
NETS = 30


class Conv(nn.Module):
    """Convolution, batch norm, an activation and one more convolution, added or not."""

    def __init__(self, rng):
        super().__init__()
        groups = rng.choice([1, 1, 2, C])
        mode = rng.choice(["zeros", "circular", "reflect"])
        pad = rng.choice([0, 1])
        self.first = nn.Conv2d(C, C, 1, bias=rng.random() < 0.5)
        self.norm = rng.choice([nn.BatchNorm2d, nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c)])(C)
        self.act = activation(rng, 1)
        self.second = nn.Conv2d(C, C, 3, padding=pad, groups=groups, padding_mode=mode)
        self.last = nn.Conv2d(C, C, 1)
        self.residual, self.pad = rng.random() < 0.8, pad

    def forward(self, x):
        y = self.second(self.act(self.norm(self.first(x))))
        y = self.last(torch.relu(y))
        x = x if self.pad else x[..., 1:-1, 1:-1]
        return x + y if self.residual else y


class Gated(nn.Module):
    """GLU, SwiGLU of two layers, or of one fused layer that is split in one of several ways."""

    def __init__(self, rng):
        super().__init__()
        self.kind = rng.choice(["glu", "two", "chunk", "split", "slice"])
        bias = rng.random() < 0.5
        self.fused = nn.Linear(C, 2 * C, bias=bias)
        self.up, self.gate = nn.Linear(C, C, bias=bias), nn.Linear(C, C, bias=bias)
        self.down = nn.Linear(C, C)
        self.residual = rng.random() < 0.5

    def forward(self, x):
        if self.kind == "two":
            y = self.up(x) * F.silu(self.gate(x))
        elif self.kind == "glu":
            y = F.glu(self.fused(x), -1)
        else:
            both = self.fused(x)
            up, gate = {
                "chunk": lambda: both.chunk(2, -1),
                "split": lambda: both.split(C, -1),
                "slice": lambda: (both[..., :C], both[..., C:]),
            }[self.kind]()
            y = up * torch.sigmoid(gate)
        return x + self.down(y) if self.residual else self.down(y)


class Attention(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.heads = rng.choice([-1, 2])
        self.own = rng.random() < 0.4
        self.mha = nn.MultiheadAttention(C, 2, batch_first=True)
        self.q, self.k, self.v, self.o = (nn.Linear(C, C) for _ in range(4))

    def forward(self, x, mask):
        if not self.own:
            hidden = None if mask is None else ~mask
            return x + self.mha(x, x, x, attn_mask=hidden, need_weights=False)[0]
        split = (*x.shape[:2], self.heads, C // 2)
        q, k, v = (layer(x).view(split).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, mask)
        return x + self.o(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class Mixed(nn.Module):
    """A perceptron whose hidden units are pooled, summed, normed or shifted on the way."""

    def __init__(self, rng):
        super().__init__()
        self.up, self.down = nn.Linear(C, C), nn.Linear(C, C)
        self.act = activation(rng, -1)
        self.norm = nn.LayerNorm(C) if rng.random() < 0.2 else nn.Identity()
        self.shift = nn.Parameter(torch.randn(C)) if rng.random() < 0.5 else None
        self.way = rng.choice(["plain", "sum", "mean", "count", "batch", "softmax", "position"])

    def forward(self, x):
        y = self.norm(self.act(self.up(x)))
        if self.shift is not None:
            y = y * self.shift
        if self.way == "sum":
            y = y + y.sum(1, keepdim=True)
        elif self.way == "mean":
            y = y.mean(1, keepdim=True)
        elif self.way == "count":
            y = y / y.shape[1]
        elif self.way == "batch":
            y = y + y.sum(0, keepdim=True)
        elif self.way == "softmax":
            y = y.softmax(-1)
        elif self.way == "position":
            y = y * torch.arange(y.shape[1])[:, None]
        return x + self.down(y)


def activation(rng, dim):
    return rng.choice(
        [
            nn.ReLU,
            nn.GELU,
            nn.Sigmoid,
            nn.Hardswish,
            nn.PReLU,
            (lambda: nn.PReLU(C)) if dim == 1 else nn.Tanh,
            lambda: sa.nn.Softshrink(torch.rand(C), num_parameters=C, channel_dim=dim),
            lambda: sa.nn.JumpReLU(0.1, learnable=True, num_parameters=C, channel_dim=dim),
        ]
    )()


class Images(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.stem = nn.Conv2d(2, C, 3, padding=1)
        self.blocks = nn.ModuleList(Conv(rng) for _ in range(rng.choice([1, 2])))
        self.head = nn.Linear(C, 3)
        self.pool = rng.choice(["max", "mean"])

    def forward(self, x, mask):
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.amax((2, 3)) if self.pool == "max" else x.mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.stem = nn.Linear(4, C)
        kinds = [rng.choice([Gated, Attention, Mixed]) for _ in range(rng.choice([1, 2, 3]))]
        self.blocks = nn.ModuleList(kind(rng) for kind in kinds)
        self.head = nn.Linear(C, 3)

    def forward(self, x, mask):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, mask) if isinstance(block, Attention) else block(x)
        return self.head(x)


def zero_units(model, rng):
    """Zero random rows, columns, biases and γ, β; some of them together."""
    for module in model.modules():
        if module in (model.head, model.stem):
            continue  # without it, the output would often be constant
        share = rng.choice([0.0, 0.2, 0.4])
        for parameter in module.parameters(recurse=False):
            with torch.no_grad():
                if parameter.ndim == 1:
                    parameter[: len(parameter) // 2] *= rng.choice([0, 1, 1])
                    parameter[torch.rand(len(parameter)) < share / 2] = 0
                else:
                    parameter[: min(C, len(parameter)) // 2] *= rng.choice([0, 1, 1])
                    parameter[torch.rand(len(parameter)) < share] = 0
                    if rng.random() < 0.3 and not module_is_grouped(module):
                        parameter[:, torch.rand(parameter.shape[1]) < share] = 0


def module_is_grouped(module):
    return getattr(module, "groups", 1) > 1


def inputs(kind, rng, example):
    """A batch, a length or an image size, and a mask."""
    batch = rng.choice([1, 2]) if example else rng.choice([1, 3, 5])
    if kind is Images:
        size = (7, 6) if example else rng.choice([(7, 6), (9, 12), (5, 5)])
        return 2 * torch.randn(batch, 2, *size), None
    length = rng.choice([1, 4]) if example else rng.choice([1, 3, 9])
    mask = rng.choice([None, torch.ones(length, length, dtype=torch.bool).tril()])
    return 2 * torch.randn(batch, length, 4), mask


@pytest.mark.parametrize("kind", [Images, Tokens])
def test_equal_outputs_or_kept_with_a_reason(kind):
    removed = kept = varied = 0
    for seed in range(NETS):
        rng = random.Random(seed)
        torch.manual_seed(seed)
        model = kind(rng)
        with torch.no_grad():
            model(*inputs(kind, rng, example=True))  # running statistics
        model.eval()
        zero_units(model, rng)
        original = copy.deepcopy(model)
        report = sa.prune_zero_units(model, inputs(kind, rng, example=True))
        for _ in range(4):
            unseen = inputs(kind, rng, example=False)
            with torch.no_grad():
                expected, found = original(*unseen), model(*unseen)
                elsewhere = original(2 - unseen[0], unseen[1])
            varied += not torch.allclose(elsewhere, expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                found,
                expected,
                rtol=1e-5,
                atol=1e-5 * max(1, expected.abs().max().item()),
                msg=lambda text, seed=seed, report=report: f"seed {seed}: {report}\n{text}",
            )
        removed += sum(report.removed.values())
        kept += len(report.kept)
        names = dict(model.named_modules())
        for name, reason in report.kept.items():
            assert name in names  # the key names the layer
            assert reason
            assert "nothing is known" not in reason
    print(f"{kind.__name__}: {NETS} nets, {removed} units removed, {kept} layers kept zero units")
    assert varied >= 0.9 * 4 * NETS, f"the output varies in {varied} of {4 * NETS} comparisons"
    assert removed > 50
    assert kept > 20
