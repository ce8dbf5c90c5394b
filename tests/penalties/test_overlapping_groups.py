"""Overlapping groups against SciPy's solution of the dual, trees, and plain groups."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import sparsact as sa
from sparsact.coding import solve_sparse_code, sparse_code

CHAIN = [[0, 1, 2], [2, 3, 4], [4, 5], [1, 5]]


def by_the_dual(x, groups, levels):
    """``x − Σ ξ_g`` with ``‖ξ_g‖ ≤ level_g``, by SLSQP."""
    sizes = [len(group) for group in groups]
    cuts = np.cumsum(sizes)[:-1]

    def rest(dual):
        left = x.copy()
        for group, part in zip(groups, np.split(dual, cuts), strict=True):
            left[group] -= part
        return left

    limits = [
        {
            "type": "ineq",
            "fun": lambda dual, g=g: levels[g] ** 2 - (np.split(dual, cuts)[g] ** 2).sum(),
        }
        for g in range(len(groups))
    ]
    found = minimize(
        lambda dual: (rest(dual) ** 2).sum() / 2,
        np.zeros(sum(sizes)),
        jac=lambda dual: -np.concatenate([rest(dual)[group] for group in groups]),
        constraints=limits,
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return rest(found.x)


@pytest.mark.parametrize("level", [0.05, 0.4, 1.5])
@pytest.mark.parametrize("scale", ["sqrt", "none"])
def test_prox_equals_the_dual_of_scipy(scale, level):
    generator = np.random.default_rng(1)
    weights = [1.0, 0.5, 2.0, 1.0]
    penalty = sa.OverlappingGroupLasso(level, CHAIN, scale=scale, weights=weights, tol=1e-13)
    roots = [len(group) ** 0.5 if scale == "sqrt" else 1.0 for group in CHAIN]
    levels = [level * weight * root for weight, root in zip(weights, roots, strict=True)]
    x = generator.standard_normal((2, 7))
    got = penalty.prox(torch.tensor(x), 1.0).numpy()
    for row, found in zip(x, got, strict=True):
        np.testing.assert_allclose(found, by_the_dual(row, CHAIN, levels), atol=1e-5)
    np.testing.assert_array_equal(got[:, 6], x[:, 6])  # in no group
    value = sum(
        each * np.linalg.norm(x[:, group], axis=1).sum()
        for each, group in zip(levels, CHAIN, strict=True)
    )
    assert float(penalty(torch.tensor(x))) == pytest.approx(value)


def test_disjoint_groups_are_a_group_lasso():
    x = torch.randn(20, 6, dtype=torch.float64)
    groups = [[0, 2], [1, 3, 5]]
    plain, overlapping = sa.GroupLasso(0.5, groups=groups), sa.OverlappingGroupLasso(0.5, groups)
    torch.testing.assert_close(overlapping(x), plain(x))
    expected = plain.prox(x, 1.3)
    got = overlapping.prox(x, 1.3)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert (got == 0).equal(expected == 0)


def test_a_tree_is_solved_from_its_leaves():
    """For groups that contain one another the prox is that of the groups in turn."""
    x = torch.randn(50, 4, dtype=torch.float64)
    tree = [[0], [2, 3], [1, 2, 3], [0, 1, 2, 3]]
    expected = x
    for group in tree:
        expected = sa.GroupLasso(0.3, groups=[group]).prox(expected, 1.0)
    got = sa.OverlappingGroupLasso(0.3, tree, tol=1e-14, steps=20_000).prox(x, 1.0)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    assert (got == 0).equal(expected == 0)


def test_other_dims_and_zeros_that_are_exact():
    x = torch.randn(6, 3, 4)
    first = sa.OverlappingGroupLasso(0.6, CHAIN, dim=0)
    last = sa.OverlappingGroupLasso(0.6, CHAIN)
    torch.testing.assert_close(first.prox(x, 1.0), last.prox(x.movedim(0, -1), 1.0).movedim(-1, 0))
    got = last.prox(x.movedim(0, -1), 1.0)
    zero_groups = torch.stack([(got[..., group] == 0).all(-1) for group in CHAIN], -1)
    covered = torch.zeros_like(got, dtype=torch.bool)
    for number, group in enumerate(CHAIN):
        covered[..., group] |= zero_groups[..., number : number + 1]
    assert (got == 0).any()
    assert covered.equal(got == 0)


@pytest.mark.parametrize("positive", [False, True])
def test_codes_are_optimal(positive):
    x = torch.randn(3, 8, dtype=torch.float64)
    atoms = torch.nn.functional.normalize(torch.randn(12, 8, dtype=torch.float64))
    groups = [range(k, k + 4) for k in range(0, 9, 2)]
    penalty = sa.OverlappingGroupLasso(0.3, groups, tol=1e-12)
    code = solve_sparse_code(x, atoms, penalty, steps=5000, tol=1e-8, positive=positive)
    codes = code.codes
    assert code.converged
    assert (codes == 0).any()
    cost = (x - codes @ atoms).square().sum() / 2 + penalty(codes)
    for size in (1e-1, 1e-3):
        for change in torch.randn(30, 3, 12, dtype=torch.float64):
            other = codes + size * change
            other = other.clamp(min=0) if positive else other
            assert (x - other @ atoms).square().sum() / 2 + penalty(other) >= cost - 1e-7


def test_proximal_training_removes_groups_of_inputs():
    model = torch.nn.Linear(6, 2, bias=False)
    inner = torch.optim.SGD(model.parameters(), lr=0.05)
    penalty = sa.OverlappingGroupLasso(0.2, [[0, 1, 2], [2, 3, 4], [5]])
    optimizer = sa.optim.Proximal(inner, model, {"weight": penalty})
    x = torch.randn(200, 6)
    for _ in range(200):
        optimizer.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        optimizer.step()
    assert not model.weight[:, 2:].any()
    assert float(model.weight.detach()[0, 0]) > 0.3


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: sa.OverlappingGroupLasso(1.0, []), "at least one group"),
        (lambda: sa.OverlappingGroupLasso(1.0, [[0, 0]]), "contains the index 0 twice"),
        (lambda: sa.OverlappingGroupLasso(1.0, [[-1]]), "negative index"),
        (lambda: sa.OverlappingGroupLasso(1.0, [[0]], weights=[1.0, 2.0]), "one number per group"),
        (lambda: sa.OverlappingGroupLasso(1.0, [[0]], weights=[-1.0]), "weights="),
        (lambda: sa.OverlappingGroupLasso(1.0, [[0]], scale="size"), "scale="),
        (lambda: sa.OverlappingGroupLasso(1.0, [[4]])(torch.ones(2, 3)), "the index 4"),
        (lambda: sa.OverlappingGroupLasso(1.0, [[0]], dim=2)(torch.ones(3)), "does not exist"),
        (
            lambda: sa.OverlappingGroupLasso(1.0, [[0]]).prox(torch.ones(2), torch.ones(2)),
            "its own step size",
        ),
        (
            lambda: sparse_code(
                torch.ones(2, 2), torch.eye(2), sa.OverlappingGroupLasso(1.0, [[0]], dim=0)
            ),
            "reaches across signals",
        ),
    ],
)
def test_wrong_input_is_one_clear_error(run, message):
    with pytest.raises(ValueError, match=message):
        run()
