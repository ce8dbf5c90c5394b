"""Activity regularisation equals that of Keras 3, layer by layer."""

import itertools
import os

os.environ["KERAS_BACKEND"] = "torch"

import pytest
import torch
from torch import nn

import sparsact as sa

keras = pytest.importorskip("keras", reason="Keras 3.13 needs Python 3.11")

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
WIDTHS = [4, 8, 5, 3]
# ElasticNet(α, ρ) = α·ρ·Σ|x| + ½·α·(1 − ρ)·Σx², so these two are Keras's L1L2(0.2, 0.3)
L1L2 = sa.ElasticNet(0.8, l1_ratio=0.25)
PAIRS = [
    ("L1", sa.L1(0.3), {"l1": 0.3}),
    ("L2", sa.L2(0.2), {"l2": 0.2}),
    ("L1L2", L1L2, {"l1": 0.2, "l2": 0.3}),
]


def build(regularizer):
    """The same network of Keras's layers and of torch's, with equal weights."""
    layers = [
        keras.layers.Dense(width, activation="tanh", activity_regularizer=regularizer)
        for width in WIDTHS[1:]
    ]
    theirs = keras.Sequential([keras.Input((WIDTHS[0],)), *layers])
    linears = [nn.Linear(a, b) for a, b in itertools.pairwise(WIDTHS)]
    ours = nn.Sequential(*(module for linear in linears for module in (linear, nn.Tanh())))
    for layer, linear in zip(layers, linears, strict=True):
        layer.set_weights([linear.weight.detach().numpy().T, linear.bias.detach().numpy()])
    return theirs, ours


@pytest.mark.parametrize(("name", "penalty", "arguments"), PAIRS, ids=[p[0] for p in PAIRS])
def test_layer_by_layer(name, penalty, arguments):
    theirs, ours = build(getattr(keras.regularizers, name)(**arguments))
    penalties = [sa.ActivationPenalty(ours, {str(k): penalty}, "batch_mean") for k in (1, 3, 5)]
    for output in (theirs(X, training=True), ours(X)):
        assert output.shape == (6, 3)
    expected = list(theirs.losses)
    values = [penalty() for penalty in penalties]
    assert len(expected) == len(values) == 3
    for got, want in zip(values, expected, strict=True):
        torch.testing.assert_close(got, want)
    sum(values).backward()
    sum(expected).backward()
    for linear, layer in zip(ours[::2], theirs.layers, strict=True):
        torch.testing.assert_close(linear.weight.grad, layer.kernel.value.grad.T)
        torch.testing.assert_close(linear.bias.grad, layer.bias.value.grad)


@pytest.mark.parametrize("mode", ["loss", "inject"])
def test_with_a_loss(mode):
    theirs, ours = build(keras.regularizers.L1L2(0.2, 0.3))
    penalty = sa.ActivationPenalty(ours, {nn.Tanh: L1L2}, mode=mode)
    loss = ours(X).square().mean()
    (loss + penalty() if mode == "loss" else loss).backward()
    (theirs(X, training=True).square().mean() + sum(theirs.losses)).backward()
    for linear, layer in zip(ours[::2], theirs.layers, strict=True):
        torch.testing.assert_close(linear.weight.grad, layer.kernel.value.grad.T)
        torch.testing.assert_close(linear.bias.grad, layer.bias.value.grad)
