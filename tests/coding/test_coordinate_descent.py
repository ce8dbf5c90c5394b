"""Coordinate descent on signals that share a dictionary, against scikit-learn and FISTA."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Lasso

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import ConvDictionary, solve_sparse_code, sparse_code
from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.problem import Problem


@pytest.fixture(scope="module")
def digits():
    images = torch.tensor(load_digits().data) / 16
    atoms = images[:100] - images[:100].mean(1, keepdim=True)
    return images[100:150] - images[100:150].mean(1, keepdim=True), atoms / atoms.norm(
        dim=1, keepdim=True
    )


def normal(data):
    """Columns with mean 0 and norm √rows, and a target with mean 0."""
    columns = (data.data - data.data.mean(0)) / data.data.std(0)
    return columns, (data.target - data.target.mean()).astype(float)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("load", [load_diabetes, load_breast_cancer])
@pytest.mark.parametrize("share", [0.5, 0.05, 0.005])
def test_one_lasso_equals_scikit_learns(load, share, positive):
    columns, target = normal(load())
    alpha = share * np.abs(columns.T @ target).max() / len(target)
    model = Lasso(alpha, fit_intercept=False, tol=1e-14, max_iter=1_000_000, positive=positive)
    expected = model.fit(columns, target).coef_
    code = solve_sparse_code(
        torch.tensor(target),
        torch.tensor(columns.T.copy()),
        sa.L1(alpha * len(target)),
        method="cd",
        tol=1e-14,
        positive=positive,
    )
    assert code.converged
    assert code.method == "cd"
    scale = np.abs(expected).max()
    np.testing.assert_allclose(code.codes.numpy(), expected, atol=1e-6 * scale)
    assert ((code.codes.numpy() != 0) == (expected != 0)).all()


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("penalty", [sa.L1(0.1), sa.L1(1.0), sa.ElasticNet(0.2, 0.7)])
def test_codes_equal_fistas(digits, penalty, positive):
    x, atoms = digits
    code = solve_sparse_code(x, atoms, penalty, method="cd", tol=1e-13, positive=positive)
    slow = solve_sparse_code(x, atoms, penalty, steps=20_000, tol=1e-12, positive=positive)
    assert code.converged
    assert torch.allclose(code.codes, slow.codes, atol=1e-5)


def nearly_equal_atoms(atoms, dim, signals):
    """Signals and atoms that share a strong mean, as patches of photographs do."""
    generator = torch.Generator().manual_seed(0)
    spread = 0.05 * torch.randn(atoms, dim, generator=generator, dtype=torch.float64)
    dictionary = torch.nn.functional.normalize(1 + spread)
    return 5 + torch.randn(signals, dim, generator=generator, dtype=torch.float64), dictionary


@pytest.mark.parametrize("positive", [False, True])
def test_nearly_equal_atoms_take_few_rounds(positive):
    x, atoms = nearly_equal_atoms(128, 64, 20)
    code = solve_sparse_code(
        x, atoms, sa.L1(0.003), method="cd", tol=1e-9, positive=positive, steps=200
    )
    assert code.converged
    options = {"fit_intercept": False, "tol": 1e-13, "max_iter": 10_000_000, "positive": positive}
    model = Lasso(0.003 / 64, **options).fit(atoms.T.numpy(), x[0].numpy())
    ours, theirs = code.codes[0], torch.tensor(model.coef_)
    objectives = [((x[0] - z @ atoms).square().sum() / 2 + 0.003 * z.abs().sum()).item()
                  for z in (ours, theirs)]  # fmt: skip
    assert objectives[0] <= objectives[1] * (1 + 1e-6)


@pytest.mark.parametrize("weights", [None, torch.rand(64) + 0.5])
@pytest.mark.parametrize("count", [3, 200])  # by working sets, and by the Gram matrix
def test_nearly_equal_atoms_in_float32(weights, count):
    x, atoms = nearly_equal_atoms(64, 30, count)
    if count == 3:
        atoms = atoms.repeat(10, 1)
        weights = None if weights is None else weights.repeat(10)
    penalty = sa.L1(0.01, weights=weights)
    code = solve_sparse_code(x.float(), atoms.float(), penalty, method="cd", tol=2e-5)
    assert code.converged
    assert code.codes.dtype == code.distance.dtype == torch.float32
    wide = Problem.of(x.float().double(), MatrixDictionary(atoms.float().double()), penalty, False)
    assert wide.relative_gap(code.codes.double()).max() < 1e-4


def test_the_coefficient_has_all_its_digits():
    x, dictionary = torch.tensor([1.0]).double(), torch.eye(1, dtype=torch.float64)
    assert float(sparse_code(x, dictionary, sa.L1(0.1), method="cd")) == 0.9


@pytest.mark.parametrize(("dim", "atoms"), [(6, 9), (6, 30), (3, 40)])
@pytest.mark.parametrize("twins", [0, 2])
@pytest.mark.parametrize("positive", [False, True])
def test_atoms_that_depend_on_others_take_few_rounds(dim, atoms, twins, positive):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, dim, dtype=torch.float64, generator=generator)
    dictionary = torch.randn(atoms, dim, dtype=torch.float64, generator=generator)
    dictionary[atoms - twins :] = dictionary[:twins]
    code = solve_sparse_code(
        x, dictionary, sa.L1(0.1), method="cd", tol=1e-12, positive=positive, steps=60
    )
    assert code.converged


def test_shapes_dtypes_and_warm_starts(digits):
    x, atoms = digits
    flat = solve_sparse_code(x[:6], atoms, sa.L1(0.5), method="cd")
    stacked = solve_sparse_code(x[:6].view(2, 3, 64), atoms, sa.L1(0.5), method="cd")
    assert torch.equal(stacked.codes, flat.codes.view(2, 3, 100))
    assert stacked.distance.shape == (2, 3)
    narrow = solve_sparse_code(x.float(), atoms.float(), sa.L1(0.1), method="cd")
    assert narrow.codes.dtype == torch.float32
    assert narrow.converged
    exact = sparse_code(x, atoms, sa.L1(0.1), method="cd", tol=1e-12)
    assert torch.allclose(narrow.codes.double(), exact, atol=2e-2)
    again = solve_sparse_code(
        x[:6], atoms, sa.L1(0.5), method="cd", start=flat.codes.where(flat.codes > 0, -flat.codes)
    )
    assert again.converged
    from_negative = solve_sparse_code(
        x[:6], atoms, sa.L1(0.5), method="cd", positive=True, start=-torch.ones(6, 100)
    )
    assert (from_negative.codes >= 0).all()


def test_gradients_against_finite_differences():
    torch.manual_seed(1)
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    atoms = torch.randn(12, 8, dtype=torch.float64, requires_grad=True)
    level = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def codes(x, atoms, level):
        return sparse_code(x, atoms, sa.L1(level), method="cd", tol=1e-14)

    assert torch.autograd.gradcheck(codes, (x, atoms, level), eps=1e-6, atol=1e-5)


def test_auto_takes_what_applies(digits):
    x, atoms = digits

    def method(dictionary, penalty, **options):
        signals = x[:2] if isinstance(dictionary, torch.Tensor) else x[:2, None]
        with torch.no_grad():
            return solve_sparse_code(signals, dictionary, penalty, method="auto", **options).method

    assert method(atoms, sa.L1(0.5)) == "cd"
    assert method(atoms, sa.ElasticNet(0.5, 0.5)) == "cd"
    assert method(atoms, sa.ElasticNet(0.5, 0.0)) == "fista"
    assert method(atoms, sa.LogSum(0.5, 0.2)) == "fista"
    assert method(atoms, sa.L1(0.5), gradient="unrolled", steps=3) == "fista"
    assert method(ConvDictionary(torch.ones(1, 1, 3).double()), sa.L1(0.5)) == "fista"


@pytest.mark.parametrize(
    "change",
    [
        {"penalty": sa.LogSum(0.5, 0.2)},
        {"penalty": sa.ElasticNet(0.5, 0.0)},
        {"penalty": sa.L1(0.0)},
        {"gradient": "unrolled"},
        {"x": torch.ones(2, 1, 6), "dictionary": ConvDictionary(torch.ones(1, 1, 3))},
    ],
)
def test_what_it_cannot_solve_is_an_error(change):
    arguments = {"x": torch.ones(2, 4), "dictionary": torch.eye(4), "penalty": sa.L1(0.1)}
    with pytest.raises(InputError, match="method='cd' needs"):
        sparse_code(**(arguments | change), method="cd")
