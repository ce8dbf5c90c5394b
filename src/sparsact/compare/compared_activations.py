"""The activations that a comparison can train, declared once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

import sparsact.nn as snn
from sparsact._common.errors import unknown

Knob = Literal["lambd", "k", "strength"]


@dataclass(frozen=True)
class Activation:
    """How one activation is built for a layer, and what makes it sparser.

    Attributes:
        help: what it does, in a few words.
        build: takes the setting's λ or k, and the width of the layer.
        takes: ``"lambd"``, ``"k"`` or None: what `build` reads.
        zeros: whether its output holds exact zeros.
        learned: whether its threshold is trained.
    """

    help: str
    build: Callable[[float | None, int], torch.nn.Module]
    takes: Literal["lambd", "k"] | None = None
    zeros: bool = False
    learned: bool = False

    @property
    def knob(self) -> Knob | None:
        """What to turn for a given density: λ, k, or the strength of a penalty."""
        if not self.zeros:
            return None
        return "strength" if self.takes is None or self.learned else self.takes


def _plain(help: str, cls: Callable[[], torch.nn.Module], zeros: bool = False) -> Activation:
    return Activation(help, lambda level, width: cls(), zeros=zeros)


def _fixed(help: str, cls: Callable[..., torch.nn.Module], zeros: bool = True) -> Activation:
    return Activation(help, lambda level, width: cls(level), takes="lambd", zeros=zeros)


def _learned(help: str, cls: Callable[..., torch.nn.Module], zeros: bool = True) -> Activation:
    keywords: dict[str, Any] = {"learnable": True, "channel_dim": -1}
    return Activation(
        help,
        lambda level, width: cls(level, num_parameters=width, **keywords),
        takes="lambd",
        zeros=zeros,
        learned=True,
    )


def _topk(level: float | None, width: int) -> torch.nn.Module:
    return snn.TopK(width if level is None else max(1, round(level * width)))


ACTIVATIONS: dict[str, Activation] = {
    "relu": _plain("zero below 0", torch.nn.ReLU, zeros=True),
    "leaky_relu": _plain("small slope below 0", torch.nn.LeakyReLU),
    "prelu": _plain("learned slope below 0", torch.nn.PReLU),
    "silu": _plain("x·sigmoid(x)", torch.nn.SiLU),
    "gelu": _plain("x·Φ(x)", torch.nn.GELU),
    "softplus": _plain("smooth ReLU", snn.Softplus),
    "sigmoid_gate": _fixed("smooth gate at ±λ", snn.SigmoidGate, zeros=False),
    "softshrink": _fixed("zero within ±λ, shifted by λ beyond", snn.Softshrink),
    "hardshrink": _fixed("zero within ±λ, unchanged beyond", snn.Hardshrink),
    "jumprelu": _fixed("zero up to λ, unchanged above", snn.JumpReLU),
    "topk": Activation("keeps the k largest of a layer", _topk, takes="k", zeros=True),
    "clip": _fixed("bounded by ±λ", snn.Clip, zeros=False),
    "learned_softshrink": _learned("softshrink, λ is trained", snn.Softshrink),
    "learned_hardshrink": _learned("hardshrink, λ is trained", snn.Hardshrink),
    "learned_jumprelu": _learned("jumprelu, λ is trained", snn.JumpReLU),
    "learned_clip": _learned("clip, λ is trained", snn.Clip, zeros=False),
}


def parse_activations(names: str) -> tuple[str, ...]:
    """A comma-separated list, or ``all``; ReLU comes first, as the reference.

    Raises:
        InputError: a name is unknown.
    """
    chosen = list(ACTIVATIONS) if names == "all" else [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in ACTIVATIONS:
            raise unknown("activation", name, ACTIVATIONS)
    return tuple(dict.fromkeys(["relu", *chosen]))
