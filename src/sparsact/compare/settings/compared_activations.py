"""The activations that a comparison can train, declared once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import sparsact.nn as snn

Knob = Literal["lambd", "k", "strength"]


@dataclass(frozen=True)
class Width:
    """The channels at the place of an activation: how many, and on which dim."""

    channels: int
    channel_dim: int = -1


@dataclass(frozen=True)
class Activation:
    """How one activation is built for a place in a network, and what makes it sparser.

    Attributes:
        help: what it does, in a few words.
        build: takes the setting's λ or k, and the width of the place.
        takes: ``"lambd"``, ``"k"`` or None: what `build` reads.
        zeros: whether its output holds exact zeros.
        learned: whether its threshold is trained.
        entrywise: whether each output depends on one input alone, so that it has a curve.
    """

    help: str
    build: Callable[[float | None, Width], nn.Module]
    takes: Literal["lambd", "k"] | None = None
    zeros: bool = False
    learned: bool = False
    entrywise: bool = True

    @property
    def knob(self) -> Knob | None:
        """What to turn for a given density: λ, k, or the strength of a penalty."""
        if not self.zeros:
            return None
        return "strength" if self.takes is None or self.learned else self.takes


class SquaredReLU(nn.Module):
    """``relu(x)²``."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to `x`."""
        return torch.relu(x).square()


def _plain(help: str, cls: Callable[[], nn.Module], zeros: bool = False) -> Activation:
    return Activation(help, lambda level, width: cls(), zeros=zeros)


def _fixed(help: str, cls: Callable[..., nn.Module], zeros: bool = True) -> Activation:
    return Activation(help, lambda level, width: cls(level), takes="lambd", zeros=zeros)


def _learned(help: str, cls: Callable[..., nn.Module], zeros: bool = True) -> Activation:
    def build(level: float | None, width: Width) -> nn.Module:
        keywords: dict[str, Any] = {"channel_dim": width.channel_dim}
        return cls(level, learnable=True, num_parameters=width.channels, **keywords)

    return Activation(help, build, takes="lambd", zeros=zeros, learned=True)


def _joint(help: str, cls: Callable[[int], nn.Module]) -> Activation:
    """One that looks at all channels of a position together."""
    build = lambda level, width: cls(width.channel_dim)  # noqa: E731
    return Activation(help, build, zeros=True, entrywise=False)


def _topk(level: float | None, width: Width) -> nn.Module:
    count = width.channels if level is None else max(1, round(level * width.channels))
    return snn.TopK(count, width.channel_dim)


def _batch_topk(level: float | None, width: Width) -> nn.Module:
    return snn.BatchTopK(1.0 if level is None else level, width.channel_dim)


def _group_softshrink(level: float | None, width: Width) -> nn.Module:
    return snn.GroupSoftshrink(0.5 if level is None else level, dim=width.channel_dim)


def _firmshrink(level: float, **keywords: Any) -> nn.Module:
    return snn.Firmshrink(level, upper=2 * level, **keywords)


ACTIVATIONS: dict[str, Activation] = {
    "relu": _plain("zero below 0", nn.ReLU, zeros=True),
    "leaky_relu": _plain("small slope below 0", nn.LeakyReLU),
    "prelu": _plain("learned slope below 0", nn.PReLU),
    "silu": _plain("x·sigmoid(x)", nn.SiLU),
    "gelu": _plain("x·Φ(x)", nn.GELU),
    "softplus": _plain("smooth ReLU", snn.Softplus),
    "sigmoid_gate": _fixed("smooth gate at ±λ", snn.SigmoidGate, zeros=False),
    "softshrink": _fixed("zero within ±λ, shifted by λ beyond", snn.Softshrink),
    "hardshrink": _fixed("zero within ±λ, unchanged beyond", snn.Hardshrink),
    "jumprelu": _fixed("zero up to λ, unchanged above", snn.JumpReLU),
    "topk": Activation(
        "keeps the k largest of a layer", _topk, takes="k", zeros=True, entrywise=False
    ),
    "clip": _fixed("bounded by ±λ", snn.Clip, zeros=False),
    "learned_softshrink": _learned("softshrink, λ is trained", snn.Softshrink),
    "learned_hardshrink": _learned("hardshrink, λ is trained", snn.Hardshrink),
    "learned_jumprelu": _learned("jumprelu, λ is trained", snn.JumpReLU),
    "learned_clip": _learned("clip, λ is trained", snn.Clip, zeros=False),
}
"""Those that ``all`` stands for."""

MORE_ACTIVATIONS: dict[str, Activation] = {
    "tanh": _plain("between −1 and 1", nn.Tanh),
    "sigmoid": _plain("between 0 and 1", nn.Sigmoid),
    "hardsigmoid": _plain("sigmoid in three lines, zero below −3", nn.Hardsigmoid, zeros=True),
    "hardtanh": _plain("bounded by ±1", nn.Hardtanh),
    "softsign": _plain("x/(1+|x|)", nn.Softsign),
    "tanhshrink": _plain("x−tanh(x)", nn.Tanhshrink),
    "logsigmoid": _plain("logarithm of sigmoid", nn.LogSigmoid),
    "elu": _plain("exponential below 0", nn.ELU),
    "celu": _plain("elu with a smooth slope", nn.CELU),
    "selu": _plain("scaled elu", nn.SELU),
    "mish": _plain("x·tanh(softplus(x))", nn.Mish),
    "hardswish": _plain("silu in three pieces, zero below −3", nn.Hardswish, zeros=True),
    "relu6": _plain("ReLU up to 6", nn.ReLU6, zeros=True),
    "squared_relu": _plain("square of ReLU", SquaredReLU, zeros=True),
    "firmshrink": _fixed("zero within ±λ, unchanged beyond ±2λ", _firmshrink),
    "scad": _fixed("softshrink that fades to unchanged beyond", snn.SCAD),
    "garrote": _fixed("zero within ±λ, shifted by λ²/x beyond", snn.Garrote),
    "halfshrink": _fixed("zero within ±λ, the prox of √|x|", snn.Halfshrink),
    "group_softshrink": Activation(
        "shrinks the norm of all channels",
        _group_softshrink,
        takes="lambd",
        zeros=True,
        entrywise=False,
    ),
    "batch_topk": Activation(
        "keeps the k largest of a batch", _batch_topk, takes="k", zeros=True, entrywise=False
    ),
    "sparsemax": _joint("projection on the simplex", snn.Sparsemax),
    "entmax": _joint("between softmax and sparsemax", lambda dim: snn.Entmax(dim=dim)),
    "learned_sigmoid_gate": _learned("sigmoid_gate, λ is trained", snn.SigmoidGate, zeros=False),
    "learned_firmshrink": _learned("firmshrink, λ is trained", _firmshrink),
    "learned_scad": _learned("scad, λ is trained", snn.SCAD),
    "learned_garrote": _learned("garrote, λ is trained", snn.Garrote),
    "learned_halfshrink": _learned("halfshrink, λ is trained", snn.Halfshrink),
}
"""Those that are trained when they are named."""

BY_NAME = {**ACTIVATIONS, **MORE_ACTIVATIONS}
