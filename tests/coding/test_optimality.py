"""The distance to the subgradients, against formulas, and 0 at the codes of every penalty."""

import pytest
import torch

import sparsact as sa
from cases import PENALTIES, by_name
from sparsact.coding import ConvDictionary, solve_sparse_code, sparse_code, subgradient_distance

GROUPS = [[0, 1, 2], [2, 3], [4, 5]]


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    atoms = torch.nn.functional.normalize(torch.randn(6, 5, dtype=x.dtype, generator=generator))
    return x.to(dtype), atoms.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("positive", [False, True])
def test_it_is_the_formula_for_l1(dtype, positive):
    x, atoms = problem(dtype)
    codes = torch.randn(3, 6, dtype=dtype).relu()
    if not positive:
        codes[:, :2] *= -1
    slope = ((x - codes @ atoms) @ atoms.T).double()
    zero = slope if positive else slope.abs()
    each = torch.where(codes == 0, (zero - 0.3).relu(), (slope - 0.3 * codes.sign()).abs())
    got = subgradient_distance(x, atoms, sa.L1(0.3), codes, positive=positive)
    torch.testing.assert_close(got, each.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_it_is_the_formula_for_groups_of_complex_numbers_too():
    x, atoms = problem()
    codes = torch.randn(3, 6, dtype=torch.float64)
    codes[:, :3] = 0
    penalty = sa.GroupLasso(0.3, group_size=3, scale="none")

    def formula(x, atoms, codes):
        slope = ((x - codes @ atoms) @ atoms.mH).unflatten(1, (2, 3))
        dead = (slope[:, 0].norm(dim=1) - 0.3).relu()
        group = codes[:, 3:]
        alive = (slope[:, 1] - 0.3 * group / group.norm(dim=1, keepdim=True)).norm(dim=1)
        return torch.stack([dead, alive], 1).norm(dim=1)

    for phase in (1.0, torch.polar(torch.ones(6, 5), torch.randn(6, 5)).to(torch.complex128)):
        turned = atoms * phase
        signals, turned_codes = x.to(turned.dtype), codes.to(turned.dtype)
        got = subgradient_distance(signals, turned, penalty, turned_codes)
        expected = formula(signals, turned, turned_codes)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


CASES = [case for case in PENALTIES if case.proximal]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_it_is_small_at_the_codes_of_every_penalty_and_not_nearby(case):
    x, atoms = problem()
    x = 3 * x
    codes = sparse_code(x, atoms, case.penalty, steps=20_000, tol=1e-12)
    scale = float((x @ atoms.T).norm())
    got = subgradient_distance(x, atoms, case.penalty, codes)
    assert got.max() <= (1e-3 if hasattr(case.penalty, "tol") else 1e-5) * scale
    if case.convex:
        away = subgradient_distance(x, atoms, case.penalty, codes + 0.1)
        assert away.min() > 1e-2


@pytest.mark.parametrize("penalty", [sa.OverlappingGroupLasso, sa.LatentGroupLasso])
def test_groups_that_share_entries(penalty):
    x, atoms = problem()
    codes = sparse_code(x, atoms, penalty(0.3, GROUPS), tol=1e-7)
    assert subgradient_distance(x, atoms, penalty(0.3, GROUPS), codes).max() < 1e-3
    assert subgradient_distance(x, atoms, penalty(0.3, GROUPS), codes + 0.1).min() > 1e-2


def test_shapes_of_signals_and_operators():
    x, atoms = problem()
    codes = torch.randn(2, 3, 6, dtype=torch.float64)
    signals = torch.stack([x, 2 * x])
    got = subgradient_distance(signals, atoms, sa.L1(0.3), codes)
    each = [
        subgradient_distance(s, atoms, sa.L1(0.3), c) for s, c in zip(signals, codes, strict=True)
    ]
    torch.testing.assert_close(got, torch.stack(each), rtol=1e-4, atol=1e-6)
    dictionary = ConvDictionary(atoms[:2, None].clone()).requires_grad_(False)
    maps = solve_sparse_code(x[:, None].repeat(1, 1, 3), dictionary, sa.L1(0.3), tol=1e-12).codes
    distance = subgradient_distance(x[:, None].repeat(1, 1, 3), dictionary, sa.L1(0.3), maps)
    assert distance.shape == (3,)
    assert distance.max() < 1e-4
    zero = subgradient_distance(x, atoms, sa.L1(100.0), torch.zeros(3, 6, dtype=x.dtype))
    assert (zero == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": torch.ones(3, 5)}, "codes= must have shape"),
        ({"step": 0.0}, "step= must be above 0"),
        ({"penalty": sa.Hoyer(1.0)}, "has no proximal operator"),
        ({"x": torch.full((3, 5), torch.nan)}, "x= holds NaN"),
    ],
)
def test_wrong_input_is_one_clear_error(change, message):
    x, atoms = problem(torch.float32)
    arguments = {"x": x, "dictionary": atoms, "penalty": sa.L1(0.1), "codes": torch.zeros(3, 6)}
    with pytest.raises(ValueError, match=message):
        subgradient_distance(**(arguments | change))
