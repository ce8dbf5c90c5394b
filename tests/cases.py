"""One row per threshold function, penalty and module: the contract tests walk these tables.

A new threshold or penalty is enrolled in all of them by adding its row here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import sparsact as sa
import sparsact.functional as SF
from sparsact.penalties import Penalty

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
LENGTHS = [1, 7, 8, 15, 16, 17, 31, 33, 1000]
LAMBDA = 0.1  # not representable in binary: rounding it to half precision moves the band


@dataclass(frozen=True)
class ThresholdCase:
    """A threshold function of one λ."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[[Tensor, float], Tensor]  # float64 → float64, by the book's formula
    dead: Callable[[Tensor, float], Tensor] | None = None  # where the closed band is
    keywords: dict[str, Any] = field(default_factory=dict)
    straight_through: bool = False  # ∂λ is a pseudo-gradient: no gradcheck of it
    keeps_inf: bool = True
    takes_sides: bool = True
    saves_output: bool = False  # backward needs nothing but the output, for a fixed λ

    def __call__(self, x: Tensor, lambd: Any = LAMBDA, **keywords: Any) -> Tensor:
        return self.function(x, lambd, **self.keywords, **keywords)


def _inside(x: Tensor, lambd: float) -> Tensor:
    return x.abs() <= lambd


THRESHOLDS = [
    ThresholdCase(
        "softshrink",
        SF.softshrink,
        lambda x, t: x.sign() * (x.abs() - t).clamp(min=0),
        dead=_inside,
        saves_output=True,
    ),
    ThresholdCase(
        "hardshrink",
        SF.hardshrink,
        lambda x, t: x * (x.abs() > t),
        dead=_inside,
        straight_through=True,
        saves_output=True,
    ),
    ThresholdCase(
        "jumprelu",
        SF.jumprelu,
        lambda x, t: x * (x > t),
        dead=lambda x, t: x <= t,
        straight_through=True,
        takes_sides=False,
    ),
    ThresholdCase(
        "sigmoid_gate",
        SF.sigmoid_gate,
        lambda x, t: x / (1 + torch.exp(-(x.abs() - t) / 0.1)),
    ),
    ThresholdCase(
        "clip",
        SF.clip,
        lambda x, t: torch.minimum(x.abs(), torch.tensor(t)) * x.sign(),
        keeps_inf=False,
    ),
]


@dataclass(frozen=True)
class PlainCase:
    """A function of a tensor alone that shares the contract but has no λ."""

    name: str
    function: Callable[[Tensor], Tensor]


PLAIN = [
    PlainCase("softplus", SF.softplus),
    PlainCase("softplus_sharp", lambda x: SF.softplus(x, 100.0)),
    PlainCase("topk_value", lambda x: SF.topk(x, 3)),
    PlainCase("topk_magnitude", lambda x: SF.topk(x, 3, by="magnitude")),
    PlainCase("clip_box", lambda x: SF.clip(x, lo=0.0, hi=0.6)),
]


@dataclass(frozen=True)
class PenaltyCase:
    """A penalty, the terms it sums by the book, and what is true of it."""

    penalty: Penalty
    terms: Callable[[Tensor], Tensor]  # float64 (samples, features) → the terms of the sum
    kinks: tuple[float, ...] = (0.0,)  # minimisers of the prox objective that a grid may miss
    convex: bool = True

    @property
    def name(self) -> str:
        return repr(self.penalty)


PENALTIES = [
    PenaltyCase(sa.L1(0.7), lambda x: 0.7 * x.abs()),
    PenaltyCase(sa.L2(0.3), lambda x: 0.3 * x * x),
    PenaltyCase(
        sa.ElasticNet(0.8, l1_ratio=0.25), lambda x: 0.8 * (0.25 * x.abs() + 0.375 * x * x)
    ),
]


@dataclass(frozen=True)
class ModuleCase:
    """A module as a user builds it; called on inputs of shape (…, 8)."""

    name: str
    build: Callable[[], nn.Module]


def _kinds(name: str, cls: Callable[..., nn.Module], **keywords: Any) -> list[ModuleCase]:
    """A threshold module with λ fixed, learned, and learned per channel."""
    channels = {"learnable": True, "num_parameters": 8, "channel_dim": -1}
    return [
        ModuleCase(f"{name}-fixed", lambda: cls(0.3, **keywords)),
        ModuleCase(f"{name}-learned", lambda: cls(0.3, learnable=True, **keywords)),
        ModuleCase(f"{name}-channels", lambda: cls(0.3, **channels, **keywords)),
    ]


MODULES = [
    *_kinds("Softshrink", sa.nn.Softshrink),
    *_kinds("Softshrink-onesided", sa.nn.Softshrink, sides="positive", zero_other=True),
    *_kinds("Hardshrink", sa.nn.Hardshrink),
    *_kinds("JumpReLU", sa.nn.JumpReLU),
    *_kinds("SigmoidGate", sa.nn.SigmoidGate),
    *_kinds("Clip", sa.nn.Clip),
    *_kinds("Clip-pact", sa.nn.Clip, lo=0.0),
    ModuleCase("Softplus-fixed", lambda: sa.nn.Softplus(2.0)),
    ModuleCase("Softplus-learned", lambda: sa.nn.Softplus(2.0, learnable=True)),
    ModuleCase("TopK", lambda: sa.nn.TopK(3)),
    ModuleCase("TopK-magnitude", lambda: sa.nn.TopK(3, by="magnitude")),
    ModuleCase("ActivityPenalty", lambda: sa.nn.ActivityPenalty(sa.L1(0.1))),
]


def by_name(case: Any) -> str:
    """The id of a case in pytest."""
    return str(case.name)
