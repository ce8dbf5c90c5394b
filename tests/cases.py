"""The tables of threshold functions, penalties and modules that the shared tests run on.

To enrol a new threshold or penalty in all shared tests, add its row here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
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
    reference: Callable[[Tensor, float], Tensor]  # float64 → float64, by the published formula
    dead: Callable[[Tensor, float], Tensor] | None = None  # True in the closed band
    keywords: dict[str, Any] = field(default_factory=dict)
    straight_through: bool = False  # ∂λ is a pseudo-gradient: no gradcheck of it
    keeps_inf: bool = True
    takes_sides: bool = True
    saves_output: bool = False  # backward needs nothing but the output, for a fixed λ

    def __call__(self, x: Tensor, lambd: Any = LAMBDA, **keywords: Any) -> Tensor:
        return self.function(x, lambd, **self.keywords, **keywords)


def _inside(x: Tensor, lambd: float) -> Tensor:
    return x.abs() <= lambd


def _scad(x: Tensor, lambd: float, a: float = 3.7) -> Tensor:
    steep = ((a - 1) * x - x.sign() * a * lambd) / (a - 2)
    soft = x.sign() * (x.abs() - lambd).clamp(min=0)
    return torch.where(x.abs() <= 2 * lambd, soft, torch.where(x.abs() <= a * lambd, steep, x))


def _half(x: Tensor, lambd: float) -> Tensor:
    u = (lambd / 1.5) ** 1.5
    angle = torch.acos(-(3**1.5) / 4 * u * x.abs() ** -1.5)  # NaN in the band, where it is not used
    return 2 / 3 * x * (1 + torch.cos(2 / 3 * angle))


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
        "firmshrink",
        SF.firmshrink,
        lambda x, t: torch.where(
            x.abs() < 1.5, x.sign() * 1.5 * (x.abs() - t).clamp(min=0) / (1.5 - t), x
        ),
        dead=_inside,
        keywords={"upper": 1.5},
        saves_output=True,
    ),
    ThresholdCase(
        "firmshrink-inf",
        SF.firmshrink,
        lambda x, t: x.sign() * (x.abs() - t).clamp(min=0),
        dead=_inside,
        keywords={"upper": math.inf},
        saves_output=True,
    ),
    ThresholdCase("scad", SF.scad, _scad, dead=_inside, saves_output=True),
    ThresholdCase(
        "garrote",
        SF.garrote,
        lambda x, t: x * (1 - (t / x) ** 2).clamp(min=0),
        dead=_inside,
        saves_output=True,
    ),
    ThresholdCase("halfshrink", SF.halfshrink, _half, dead=_inside, saves_output=True),
    ThresholdCase(
        "jumprelu",
        SF.jumprelu,
        lambda x, t: x * (x > t),
        dead=lambda x, t: x <= t,
        straight_through=True,
        takes_sides=False,
        saves_output=True,
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
    """A function without a λ argument that obeys the same contract."""

    name: str
    function: Callable[[Tensor], Tensor]


PLAIN = [
    PlainCase("softplus", SF.softplus),
    PlainCase("softplus_sharp", lambda x: SF.softplus(x, 100.0)),
    PlainCase("topk_value", lambda x: SF.topk(x, 3)),
    PlainCase("topk_magnitude", lambda x: SF.topk(x, 3, by="magnitude")),
    PlainCase("batch_topk_value", lambda x: SF.batch_topk(x, 3)),
    PlainCase("batch_topk_magnitude", lambda x: SF.batch_topk(x, 3, by="magnitude")),
    PlainCase("group_softshrink", lambda x: SF.group_softshrink(x, 0.5)),
    PlainCase("group_softshrink-dim0", lambda x: SF.group_softshrink(x, 0.5, 0)),
    PlainCase("sparse_group_softshrink", lambda x: SF.sparse_group_softshrink(x, 0.1, 0.5)),
    PlainCase("clip_box", lambda x: SF.clip(x, lo=0.0, hi=0.6)),
]


@dataclass(frozen=True)
class PenaltyCase:
    """A penalty, the terms of its sum by the published formula, and its properties."""

    penalty: Penalty
    terms: Callable[[Tensor], Tensor]  # float64 (samples, features) → the terms of the sum
    kinks: tuple[float, ...] = (0.0,)  # minimisers of the prox objective that a grid may miss
    convex: bool = True
    proximal: bool = True  # has a prox
    block: int = 1  # features that its prox moves together
    entry_steps: bool = True  # its prox takes one step size per entry
    exact: bool = True  # its gradient is not straight-through
    bounded: bool = False  # an infinite input has a finite cost
    grows: bool = True  # larger inputs cost more, without bound
    domain: Callable[[Tensor], Tensor] = lambda x: x  # maps any tensor to valid inputs

    @property
    def name(self) -> str:
        return type(self.penalty).__name__


def _pairs(x: Tensor) -> Tensor:
    """The norms of neighbouring pairs of features."""
    return x.unflatten(-1, (-1, 2)).norm(dim=-1)


def _ratio(x: Tensor) -> Tensor:
    return x.abs().sum(1) / x.square().sum(1).sqrt()


def scad_terms(x: Tensor, coef: float = 0.7, lambd: float = 0.5, a: float = 3.7) -> Tensor:
    y = x.abs()
    middle = (2 * a * lambd * y - y * y - lambd**2) / (2 * (a - 1))
    outer = torch.where(y <= a * lambd, middle, lambd**2 * (a + 1) / 2)
    return coef * torch.where(y <= lambd, lambd * y, outer)


def pairwise_maxima(x: Tensor) -> Tensor:
    """max(|x_i|, |x_j|) of each pair of features; of many features, grouped by the larger one."""
    if x.shape[-1] > 100:
        ordered = x.abs().sort(-1).values
        return ordered * torch.arange(x.shape[-1])
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1], 1)
    return torch.maximum(x[..., first].abs(), x[..., second].abs())


def slope_terms(x: Tensor, coef: float = 0.4, q: float = 0.2) -> Tensor:
    n = x.shape[-1]
    levels = norm.ppf(1 - np.arange(1, n + 1) * q / (2 * n))
    return coef * x.abs().sort(-1, descending=True).values * torch.from_numpy(levels)


PENALTIES = [
    PenaltyCase(sa.L1(0.7), lambda x: 0.7 * x.abs()),
    PenaltyCase(sa.L2(0.3), lambda x: 0.3 * x * x),
    PenaltyCase(
        sa.ElasticNet(0.8, l1_ratio=0.25), lambda x: 0.8 * (0.25 * x.abs() + 0.375 * x * x)
    ),
    PenaltyCase(
        sa.GroupLasso(0.4, group_size=2), lambda x: 0.4 * math.sqrt(2) * _pairs(x), block=2
    ),
    PenaltyCase(
        sa.SparseGroupLasso(0.6, l1_ratio=0.3, group_size=2, scale="none"),
        lambda x: torch.cat([0.6 * 0.3 * x.abs(), 0.6 * 0.7 * _pairs(x)], -1),
        block=2,
    ),
    PenaltyCase(
        sa.L0(0.7, threshold=0.5),
        lambda x: 0.7 * (x.abs() > 0.5).double(),
        kinks=(0.0, 0.5, -0.5),
        convex=False,
        exact=False,
    ),
    PenaltyCase(sa.LogSum(0.5, eps=0.1), lambda x: 0.5 * torch.log1p(x.abs() / 0.1), convex=False),
    PenaltyCase(sa.LHalf(0.4), lambda x: 0.4 * x.abs().sqrt(), convex=False),
    PenaltyCase(
        sa.MCP(0.7, lambd=0.6, gamma=3.0),
        lambda x: 0.7 * torch.where(x.abs() <= 1.8, 0.6 * x.abs() - x * x / 6, 0.54),
        kinks=(0.0, 1.8, -1.8),
        convex=False,
        bounded=True,
    ),
    PenaltyCase(sa.SCAD(0.7, lambd=0.5), scad_terms, convex=False, bounded=True),
    PenaltyCase(
        sa.OSCAR(0.5, pairwise=0.3),
        lambda x: torch.cat([0.5 * x.abs(), 0.15 * pairwise_maxima(x)], -1),
        block=2,
        entry_steps=False,
    ),
    PenaltyCase(
        sa.TotalVariation(0.6),
        lambda x: 0.6 * x.diff(dim=-1).abs(),
        block=2,
        entry_steps=False,
        grows=False,
    ),
    PenaltyCase(
        sa.OverlappingGroupLasso(0.5, [[0, 1], [1]], scale="none", tol=1e-14),
        lambda x: 0.5 * torch.cat([x[:, :2].norm(dim=1, keepdim=True), x[:, 1:2].abs()], 1),
        block=2,
        entry_steps=False,
        grows=False,
    ),
    PenaltyCase(sa.SLOPE(0.4, q=0.2), slope_terms, block=2, entry_steps=False),
    PenaltyCase(
        sa.Hoyer(0.9),
        lambda x: 0.9 * (_ratio(x) - 1) / (math.sqrt(x.shape[1]) - 1),
        convex=False,
        proximal=False,
        grows=False,
    ),
    PenaltyCase(
        sa.HoyerSquare(0.9),
        lambda x: 0.9 * _ratio(x) ** 2,
        convex=False,
        proximal=False,
        grows=False,
    ),
    PenaltyCase(
        sa.KLSparsity(0.4, rho=0.2),
        lambda x: 0.4 * (0.2 * torch.log(0.2 / x.mean(0)) + 0.8 * torch.log(0.8 / (1 - x.mean(0)))),
        proximal=False,
        grows=False,
        domain=torch.sigmoid,
    ),
    PenaltyCase(
        sa.SmoothL1(0.7, beta=0.3),
        lambda x: 0.7 * torch.where(x.abs() <= 0.3, x * x / 0.6, x.abs() - 0.15),
    ),
]


@dataclass(frozen=True)
class ModuleCase:
    """A module as a user builds it; called on inputs of shape (…, 8)."""

    name: str
    build: Callable[[], nn.Module]
    buffers: int = 0  # entries of the state_dict in addition to the parameters


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
    *_kinds("Hardshrink-triangle", sa.nn.Hardshrink, kernel="triangle"),
    *_kinds("Firmshrink", sa.nn.Firmshrink),
    *_kinds("Firmshrink-inf", sa.nn.Firmshrink, upper=math.inf),
    *_kinds("SCAD", sa.nn.SCAD),
    *_kinds("Garrote", sa.nn.Garrote),
    *_kinds("Halfshrink", sa.nn.Halfshrink),
    *_kinds("GroupSoftshrink", sa.nn.GroupSoftshrink, dim=0),
    ModuleCase("GroupSoftshrink-rows", lambda: sa.nn.GroupSoftshrink(0.9)),
    ModuleCase(
        "GroupSoftshrink-blocks",
        lambda: sa.nn.GroupSoftshrink(0.9, True, num_parameters=2, channel_dim=-1, group_size=4),
    ),
    *_kinds("SparseGroupSoftshrink", sa.nn.SparseGroupSoftshrink, group_size=2),
    *_kinds("JumpReLU", sa.nn.JumpReLU),
    *_kinds("JumpReLU-sigmoid", sa.nn.JumpReLU, kernel="sigmoid"),
    *_kinds("SigmoidGate", sa.nn.SigmoidGate),
    *_kinds("Clip", sa.nn.Clip),
    *_kinds("Clip-pact", sa.nn.Clip, lo=0.0),
    ModuleCase("Softplus-fixed", lambda: sa.nn.Softplus(2.0)),
    ModuleCase("Softplus-learned", lambda: sa.nn.Softplus(2.0, learnable=True)),
    ModuleCase("Sparsemax", lambda: sa.nn.Sparsemax()),
    ModuleCase("Entmax", lambda: sa.nn.Entmax()),
    ModuleCase("Entmax-bisection", lambda: sa.nn.Entmax(1.7)),
    ModuleCase("TopK", lambda: sa.nn.TopK(3)),
    ModuleCase("TopK-magnitude", lambda: sa.nn.TopK(3, by="magnitude")),
    ModuleCase("BatchTopK", lambda: sa.nn.BatchTopK(3), buffers=2),
    ModuleCase("BatchTopK-magnitude", lambda: sa.nn.BatchTopK(3, by="magnitude"), buffers=2),
    ModuleCase("ActivityPenalty", lambda: sa.nn.ActivityPenalty(sa.L1(0.1))),
]


def by_name(case: Any) -> str:
    """The id of a case in pytest."""
    return str(case.name)
