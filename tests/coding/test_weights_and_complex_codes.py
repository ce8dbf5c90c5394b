"""Weights per entry, positive codes and complex codes, against scikit-learn and real problems."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import (
    ConvDictionary,
    ZeroCodeWarning,
    path,
    solve_sparse_code,
    sparse_code,
)

PROXIMAL = [
    sa.L1(0.3),
    sa.L1(0.3, weights=torch.linspace(0.5, 2, 30).double()),
    sa.ElasticNet(0.4, 0.6),
    sa.ElasticNet(0.4, 0.6, weights=torch.linspace(0.5, 2, 30).double()),
    sa.GroupLasso(0.1, group_size=3),
    sa.GroupLasso(0.1, groups=[range(k, 30, 6) for k in range(6)]),
    sa.SparseGroupLasso(0.2, group_size=3),
    sa.penalties.SLOPE(0.2),
    sa.penalties.OSCAR(0.2, pairwise=0.02),
]
STATIONARY = [sa.MCP(0.5), sa.SCAD(0.5), sa.LogSum(0.1, 0.3), sa.LHalf(0.2)]


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(4)
    atoms = torch.randn(30, 15, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 15, generator=generator, dtype=torch.float64)
    return x, torch.nn.functional.normalize(atoms)


def moved_by_a_step(x, atoms, penalty, codes, positive):
    """How far a proximal gradient step of this test's own moves the codes."""
    step = 1 / float(torch.linalg.matrix_norm(atoms, 2)) ** 2
    raised = codes + step * (x - codes @ atoms) @ atoms.mH
    raised = raised.clamp(min=0) if positive else raised
    return float((penalty.prox(raised, step) - codes).abs().max()) / step


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("penalty", PROXIMAL + STATIONARY, ids=lambda p: type(p).__name__)
def test_codes_satisfy_the_optimality_condition(problem, penalty, positive):
    x, atoms = problem
    options = {"steps": 20_000, "tol": 1e-13, "positive": positive}
    codes = solve_sparse_code(x, atoms, penalty, **options).codes
    assert codes.any()
    assert not positive or (codes >= 0).all()
    assert moved_by_a_step(x, atoms, penalty, codes, positive) < 1e-5
    if penalty not in STATIONARY:  # no feasible neighbour costs less
        cost = (x - codes @ atoms).square().sum() / 2 + penalty(codes)
        for size in (1e-1, 1e-3):
            other = codes + size * torch.randn(20, *codes.shape, dtype=torch.float64)
            for each in other.clamp(min=0) if positive else other:
                assert (x - each @ atoms).square().sum() / 2 + penalty(each) >= cost - 1e-9


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("method", ["cd", "fista", "ista"])
def test_weights_per_atom_equal_scikit_learns_scaled_columns(problem, method, positive, sparse):
    x, atoms = problem
    weights = torch.linspace(0.3, 2, 30, dtype=torch.float64)
    dictionary = atoms.to_sparse() if sparse else atoms
    code = solve_sparse_code(
        x,
        dictionary,
        sa.L1(0.3, weights=weights),
        method=method,
        positive=positive,
        steps=100_000,
        tol=1e-10,
    )
    assert code.converged
    model = Lasso(0.02, fit_intercept=False, tol=1e-14, max_iter=100_000, positive=positive)
    for signal, found in zip(x, code.codes, strict=True):
        scaled = model.fit((atoms / weights[:, None]).t().numpy(), signal.numpy()).coef_
        np.testing.assert_allclose(found.numpy(), scaled / weights.numpy(), atol=1e-4)


def test_the_gap_with_weights_is_an_upper_bound(problem):
    x, atoms = problem
    weights = torch.rand(4, 30, dtype=torch.float64) + 0.1
    for penalty in (sa.L1(0.2, weights=weights), sa.ElasticNet(0.3, 0.5, weights=weights)):
        best = solve_sparse_code(x, atoms, penalty, steps=50_000, tol=1e-13)
        assert best.converged
        few = solve_sparse_code(x, atoms, penalty, steps=15, tol=0)
        missing = (x - few.codes @ atoms).square().sum() / 2 + penalty(few.codes)
        missing -= (x - best.codes @ atoms).square().sum() / 2 + penalty(best.codes)
        bound = (few.distance * x.square().sum(1) / 2).sum()
        assert 0 <= float(missing) <= float(bound)


def test_weights_per_signal_follow_their_signal(problem):
    """Signals that are done are left out; the weights of the others must stay theirs."""
    x, atoms = problem
    weights = torch.rand(4, 30, dtype=torch.float64) + 0.1
    x = x * torch.tensor([[0.01], [1.0], [10.0], [1.0]]).double()
    together = sparse_code(x, atoms, sa.L1(0.2, weights=weights), steps=20_000, tol=1e-12)
    stacked = sparse_code(
        x.view(2, 2, 15),
        atoms,
        sa.L1(0.2, weights=weights.view(2, 2, 30)),
        steps=20_000,
        tol=1e-12,
    )
    torch.testing.assert_close(stacked.view(4, 30), together)
    for row in range(1, 4):
        alone = sparse_code(x[row], atoms, sa.L1(0.2, weights=weights[row]), method="cd", tol=1e-12)
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)


def test_weights_are_differentiated(problem):
    x, atoms = problem
    weights = (torch.rand(12, dtype=torch.float64) + 0.5).requires_grad_()

    def codes(weights):
        penalty = sa.L1(0.3, weights=weights)
        return sparse_code(x[:2], atoms[:12], penalty, method="cd", tol=1e-14)

    assert torch.autograd.gradcheck(codes, (weights,), eps=1e-6, atol=1e-5)


def test_an_atom_of_weight_zero_is_least_squares(problem):
    x, atoms = problem
    weights = torch.ones(30, dtype=torch.float64)
    weights[:3] = 0
    penalty = sa.L1(0.3, weights=weights)
    codes = sparse_code(x, atoms, penalty, steps=50_000, tol=1e-12)
    correlation = (x - codes @ atoms) @ atoms.t()
    assert correlation[:, :3].abs().max() < 1e-8
    assert correlation.abs().max() < 0.3 + 1e-8
    with pytest.raises(InputError, match="one positive number per atom"):
        sparse_code(x, atoms, penalty, method="cd")


def test_a_path_with_weights_starts_at_zero(problem):
    x, atoms = problem
    weights = torch.linspace(0.5, 2, 30, dtype=torch.float64)
    found = path(x, atoms, penalty=sa.L1(1.0, weights=weights), count=4, ratio=0.1)
    assert not found.codes[0].any()
    lower = sa.L1(0.99 * float(found.lambdas[0]), weights=weights)
    assert sparse_code(x, atoms, lower).any()


def complex_problem(dtype=torch.complex128):
    generator = torch.Generator().manual_seed(7)
    atoms = torch.randn(20, 8, generator=generator, dtype=torch.complex128)
    x = torch.randn(3, 8, generator=generator, dtype=torch.complex128)
    return x.to(dtype), torch.nn.functional.normalize(atoms).to(dtype)


def as_real(x, atoms):
    """The same problem in real numbers: a code is a pair, and so is an entry of a signal."""
    top = torch.stack([atoms.real, atoms.imag], -1).flatten(1)
    bottom = torch.stack([-atoms.imag, atoms.real], -1).flatten(1)
    return torch.view_as_real(x).flatten(1), torch.stack([top, bottom], 1).flatten(0, 1)


@pytest.mark.parametrize("method", ["auto", "fista", "ista"])
def test_complex_codes_are_a_group_lasso_of_pairs(method):
    x, atoms = complex_problem()
    code = solve_sparse_code(x, atoms, sa.L1(0.4), method=method, steps=100_000, tol=1e-11)
    assert code.converged
    assert not code.distance.is_complex()
    pairs = sa.GroupLasso(0.4, group_size=2, scale="none")
    expected = sparse_code(*as_real(x, atoms), pairs, steps=100_000, tol=1e-12)
    torch.testing.assert_close(
        torch.view_as_real(code.codes).flatten(1), expected, atol=1e-5, rtol=0
    )
    zero = code.codes == 0
    assert zero.any()
    assert not zero.all()


def test_complex_codes_in_single_precision_and_by_other_penalties():
    x, atoms = complex_problem()
    wide = sparse_code(x, atoms, sa.L1(0.4), steps=10_000, tol=1e-10)
    narrow = sparse_code(*complex_problem(torch.complex64), sa.L1(0.4), tol=1e-5)
    assert narrow.dtype == torch.complex64
    torch.testing.assert_close(narrow.to(wide.dtype), wide, atol=2e-2, rtol=0)
    for penalty in (sa.ElasticNet(0.4, 0.5), sa.GroupLasso(0.2, group_size=4), sa.MCP(0.6)):
        codes = sparse_code(x, atoms, penalty, steps=20_000, tol=1e-12)
        assert moved_by_a_step(x, atoms, penalty, codes, False) < 1e-5


def test_the_unrolled_gradient_of_complex_codes():
    x, atoms = complex_problem()
    x, atoms = x[:1, :4].clone().requires_grad_(), atoms[:5, :4].clone().requires_grad_()

    def codes(x, atoms):
        return sparse_code(x, atoms, sa.L1(0.05), steps=4, gradient="unrolled", method="ista")

    step_is_constant = atoms.detach()
    assert torch.autograd.gradcheck(lambda x: codes(x, step_is_constant), (x,), atol=1e-5)
    with pytest.raises(InputError, match="complex codes is not implemented"):
        sparse_code(x, atoms, sa.L1(0.05))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize(("dims", "stride"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1), (3, 2)])
def test_the_adjoint_of_a_convolution(dims, stride, dtype):
    """The dot test, and codes against the matrix that the convolution is."""
    generator = torch.Generator().manual_seed(dims)
    sizes = [3 + stride * (2 + d) for d in range(dims)]
    atoms = torch.randn(2, 2, *[3] * dims, generator=generator, dtype=dtype)
    dictionary = ConvDictionary(atoms, stride)
    x = torch.randn(2, 2, *sizes, generator=generator, dtype=dtype)
    with torch.no_grad():
        codes = torch.randn(dictionary.adjoint(x).shape, generator=generator, dtype=dtype)
        left = torch.vdot(x.flatten(), dictionary(codes).flatten())
        right = torch.vdot(dictionary.adjoint(x).flatten(), codes.flatten())
        torch.testing.assert_close(left, right)
        found = sparse_code(x, dictionary, sa.L1(0.5), steps=5000, tol=1e-9)
        basis = torch.eye(codes[0].numel(), dtype=dtype).view(-1, *codes.shape[1:])
        matrix = dictionary(basis).flatten(1)
    expected = sparse_code(x.flatten(1), matrix, sa.L1(0.5), steps=5000, tol=1e-9)
    torch.testing.assert_close(found.flatten(1), expected, atol=1e-3, rtol=0)


def test_codes_that_are_all_zero_are_said(problem):
    x, atoms = problem
    for penalty in (sa.L1(1e3), sa.GroupLasso(1e3, group_size=3), sa.MCP(1.0, lambd=1e3)):
        with pytest.warns(ZeroCodeWarning, match="all codes are zero"):
            assert not sparse_code(x, atoms, penalty).any()
    assert not sparse_code(0 * x, atoms, sa.L1(0.1)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": sa.L1(0.1, weights=[1.0, 2.0])}, "weights= of shape .* do not broadcast"),
        ({"penalty": sa.MCP(0.1, weights=torch.ones(5, 4))}, "weights= of shape .* of MCP"),
        ({"x": torch.randn(2, 4) + 0j}, "convert one"),
        ({"x": torch.randn(2, 4) + 0j, "positive": True}, "positive= needs real"),
        ({"x": torch.full((2, 4), complex(0, float("nan")))}, "x= holds NaN"),
        (
            {"x": torch.randn(2, 4) + 0j, "dictionary": (torch.eye(4) + 0j).to_sparse()},
            "must be real",
        ),
    ],
)
def test_wrong_input_is_one_clear_error(change, message):
    arguments = {"x": torch.randn(2, 4), "dictionary": torch.eye(4), "penalty": sa.L1(0.1)}
    with pytest.raises(InputError, match=message):
        sparse_code(**(arguments | change))
