"""Every proximal operator against a brute-force minimum of its objective.

The penalties are written out from the literature, so that function and test share no formula:
MCP: Zhang (2010), eq. 2.1; SCAD: Fan & Li (2001), eq. 2.7 integrated; the penalty of the garrote:
Antoniadis (2007), "Wavelet methods in statistics", table 1; L½: Xu et al. (2012).
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import sparsact.functional as SF

POINTS = torch.tensor(
    [0.0, 1e-3, 0.1, 0.3, 0.49, 0.51, 0.7, 0.99, 1.01, 1.2, 1.49, 1.51, 1.84, 1.86, 2.5, 4.0]
).double()
POINTS = torch.cat([POINTS, -POINTS])
GRID = torch.linspace(-5, 5, 20_001, dtype=torch.float64)

pytestmark = pytest.mark.versions


def mcp(u: Tensor, alpha: float, gamma: float) -> Tensor:
    inner = alpha * u.abs() - u * u / (2 * gamma)
    return torch.where(u.abs() <= alpha * gamma, inner, torch.tensor(alpha**2 * gamma / 2))


def scad_penalty(u: Tensor, lambd: float, a: float) -> Tensor:
    y = u.abs()
    middle = (2 * a * lambd * y - y * y - lambd**2) / (2 * (a - 1))
    flat = torch.full_like(y, lambd**2 * (a + 1) / 2)
    return torch.where(y <= lambd, lambd * y, torch.where(y <= a * lambd, middle, flat))


def garrote_penalty(u: Tensor, lambd: float) -> Tensor:
    y = u.abs()
    return (y * (y * y + 4 * lambd**2).sqrt() - y * y) / 4 + lambd**2 * torch.asinh(y / (2 * lambd))


@dataclass(frozen=True)
class Prox:
    """A shrinkage, the penalty it minimises with, and the step."""

    name: str
    function: Callable[[Tensor], Tensor]
    penalty: Callable[[Tensor], Tensor]
    step: float = 1.0


# the proximal operator of a penalty with a step, in the parameters of our functions
ELEMENTWISE = [
    Prox("soft", lambda x: SF.softshrink(x, 0.5), lambda u: 0.5 * u.abs()),
    Prox("soft-step", lambda x: SF.softshrink(x, 3 * 0.25), lambda u: 0.25 * u.abs(), 3.0),
    Prox(
        "soft-onesided",
        lambda x: SF.softshrink(x, 0.5, sides="positive", zero_other=True),
        lambda u: torch.where(u >= 0, 0.5 * u, torch.inf),
    ),
    Prox("hard", lambda x: SF.hardshrink(x, 0.5), lambda u: 0.125 * (u != 0)),
    Prox(
        "hard-step", lambda x: SF.hardshrink(x, (2 * 2 * 0.3) ** 0.5), lambda u: 0.3 * (u != 0), 2.0
    ),
    Prox("firm", lambda x: SF.firmshrink(x, 0.5, 1.5), lambda u: mcp(u, 0.5, 3.0)),
    Prox("firm-step", lambda x: SF.firmshrink(x, 0.5 * 2, 1.5), lambda u: mcp(u, 0.5, 3.0), 2.0),
    Prox("firm-inf", lambda x: SF.firmshrink(x, 0.5, torch.inf), lambda u: 0.5 * u.abs()),
    Prox("firm-hard", lambda x: SF.firmshrink(x, 0.5, 0.5), lambda u: 0.125 * (u != 0)),
    Prox("scad", lambda x: SF.scad(x, 0.5), lambda u: scad_penalty(u, 0.5, 3.7)),
    Prox("scad-2.5", lambda x: SF.scad(x, 0.7, 2.5), lambda u: scad_penalty(u, 0.7, 2.5)),
    Prox("garrote", lambda x: SF.garrote(x, 0.5), lambda u: garrote_penalty(u, 0.5)),
    Prox("half", lambda x: SF.halfshrink(x, 0.5), lambda u: (0.5 / 1.5) ** 1.5 * u.abs().sqrt()),
    Prox(
        "half-step",
        lambda x: SF.halfshrink(x, 1.5 * (2 * 0.2) ** (2 / 3)),
        lambda u: 0.2 * u.abs().sqrt(),
        2.0,
    ),
    Prox("clip", lambda x: SF.clip(x, 0.5), lambda u: torch.where(u.abs() <= 0.5, 0.0, torch.inf)),
]


def objective(prox: Prox, u: Tensor, x: Tensor) -> Tensor:
    return (u - x).square() / 2 + prox.step * prox.penalty(u).double()


@pytest.mark.parametrize("prox", ELEMENTWISE, ids=lambda prox: prox.name)
def test_minimises_the_objective(prox):
    result = prox.function(POINTS)
    for x, got in zip(POINTS, result, strict=True):
        lambdas = torch.tensor([0.0, 0.5, -0.5, 0.7, -0.7, float(x)], dtype=torch.float64)
        candidates = torch.cat([GRID, lambdas])
        values = objective(prox, candidates, x)
        best = candidates[values.argmin()]
        assert objective(prox, got, x) <= values.min() + 1e-12
        assert (got - best).abs() <= 1e-3, f"at x={x}"  # the grid's step is 5e-4


@pytest.mark.parametrize("prox", ELEMENTWISE, ids=lambda prox: prox.name)
def test_a_tensor_of_points_is_not_all_zero_or_identity(prox):
    """Check the test itself: each case has points inside and outside the band."""
    result = prox.function(POINTS)
    changed = (result - POINTS).abs() > 1e-9
    assert changed.any()
    assert (result != 0).any()
    assert prox.name == "clip" or (result[changed] == 0).any()


# group kinds: the minimum over a plane, coarse then fine
@pytest.mark.parametrize(("entry", "group"), [(0.0, 0.8), (0.3, 0.6), (0.5, 0.0)])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_groups_minimise_the_objective(entry, group, step):
    points = torch.tensor(
        [[0.3, 0.2], [0.9, -0.1], [1.5, 1.0], [-2.0, 0.2], [0.0, 0.0], [0.5, -0.5]]
    ).double()
    got = SF.sparse_group_softshrink(points, step * entry, step * group)
    if entry == 0:
        torch.testing.assert_close(got, SF.group_softshrink(points, step * group))
    for x, ours in zip(points, got, strict=True):
        center, width = torch.zeros(2, dtype=torch.float64), 3.0
        for _ in range(4):  # each pass narrows the square around the best point
            axis = torch.linspace(-width, width, 121, dtype=torch.float64)
            plane = center + torch.cartesian_prod(axis, axis)
            plane = torch.cat([plane, torch.zeros(1, 2, dtype=torch.float64), x[None]])
            values = _group_objective(plane, x, step * entry, step * group)
            center, width = plane[values.argmin()], width / 20
        best = _group_objective(center[None], x, step * entry, step * group)
        assert _group_objective(ours[None], x, step * entry, step * group) <= best + 1e-12
        assert (ours - center).norm() < 1e-3


def _group_objective(u: Tensor, x: Tensor, entry: float, group: float) -> Tensor:
    fit = (u - x).square().sum(-1) / 2
    return fit + entry * u.abs().sum(-1) + group * u.square().sum(-1).sqrt()


CONVEX: dict[str, Callable[[Tensor], Tensor]] = {
    "soft": lambda x: SF.softshrink(x, 0.5),
    "soft-onesided": lambda x: SF.softshrink(x, 0.5, sides="positive", zero_other=True),
    "clip": lambda x: SF.clip(x, 0.5),
    "group": lambda x: SF.group_softshrink(x, 0.5),
    "group-blocks": lambda x: SF.group_softshrink(x, 0.5, group_size=2),
    "sparse-group": lambda x: SF.sparse_group_softshrink(x, 0.3, 0.5),
}


@pytest.mark.parametrize("name", CONVEX)
def test_the_prox_of_a_convex_penalty_is_not_expansive(name):
    function = CONVEX[name]
    a = torch.randn(2000, 6, dtype=torch.float64)
    b = (
        a
        + torch.randn(2000, 6, dtype=torch.float64) * torch.logspace(-3, 1, 2000).double()[:, None]
    )
    before, after = a - b, function(a) - function(b)
    # firmly: ‖Pa − Pb‖² ≤ ⟨Pa − Pb, a − b⟩, which implies non-expansiveness
    assert ((before * after).sum(-1) - after.square().sum(-1) >= -1e-12).all()
    assert (after.norm(dim=-1) <= before.norm(dim=-1) + 1e-12).all()


def test_the_prox_of_a_non_convex_penalty_can_be_expansive():
    """Check that the test above can fail."""
    a, b = torch.tensor([0.51]), torch.tensor([0.5])
    for function in (SF.hardshrink, SF.firmshrink, SF.garrote, SF.halfshrink):
        assert (function(a, 0.5) - function(b, 0.5)).abs() > 1.5 * (a - b).abs()
