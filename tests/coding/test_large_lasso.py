"""Large lasso problems by working sets, and paths over λ, against scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Lasso, enet_path, lasso_path

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import NotConvergedWarning, path, solve_sparse_code, sparse_code
from sparsact.coding.operators import MatrixDictionary
from sparsact.coding.sparse_dictionary import SparseDictionary, sparse_matrix
from sparsact.coding.working_set import LargeLasso


@pytest.fixture(scope="module")
def wide():
    """30 rows of 1500 correlated columns, and a target of ten of them."""
    generator = np.random.default_rng(0)
    columns = generator.standard_normal((30, 8)) @ generator.standard_normal((8, 1500))
    columns += generator.standard_normal((30, 1500))
    target = columns[:, ::150] @ generator.standard_normal(10) + generator.standard_normal(30)
    return columns, target


@pytest.fixture(scope="module")
def thin():
    """400 rows of 600 sparse columns; some columns are empty."""
    generator = np.random.default_rng(1)
    columns = scipy.sparse.random(400, 600, 0.01, format="csc", random_state=generator)
    target = columns[:, :20] @ generator.standard_normal(20) + 0.05 * generator.standard_normal(400)
    return columns, target


def scikit_learns(columns, target, level, **options):
    model = Lasso(
        level / len(target), fit_intercept=False, tol=1e-15, max_iter=1_000_000, **options
    )
    return model.fit(columns, target).coef_


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_a_dense_lasso_equals_scikit_learns(wide, share, positive):
    columns, target = wide
    level = share * np.abs(columns.T @ target).max()
    code = solve_sparse_code(
        torch.tensor(target),
        torch.tensor(columns.T.copy()),
        sa.L1(level),
        method="cd",
        tol=1e-13,
        positive=positive,
    )
    expected = scikit_learns(columns, target, level, positive=positive)
    assert code.converged
    np.testing.assert_allclose(code.codes.numpy(), expected, atol=1e-6)
    assert ((code.codes.numpy() != 0) == (np.abs(expected) > 1e-8)).all()


@pytest.mark.parametrize("form", ["scipy", "csr", "coo"])
@pytest.mark.parametrize("share", [0.5, 0.05])
def test_a_sparse_lasso_equals_scikit_learns(thin, share, form):
    columns, target = thin
    level = share * np.abs(columns.T @ target).max()
    dense = torch.tensor(columns.T.toarray())
    dictionary = {"scipy": columns.T, "csr": dense.to_sparse_csr(), "coo": dense.to_sparse()}[form]
    for penalty in (sa.L1(level), sa.ElasticNet(2 * level, 0.5)):
        code = solve_sparse_code(
            torch.tensor(target), dictionary, penalty, method="auto", tol=1e-12
        )
        assert code.converged
        assert code.method == "cd"
        expected = sparse_code(torch.tensor(target), dense, penalty, steps=20_000, tol=1e-12)
        torch.testing.assert_close(code.codes, expected, atol=1e-5, rtol=0)
    expected = scikit_learns(columns, target, level)
    code = sparse_code(torch.tensor(target), dictionary, sa.L1(level), method="cd", tol=1e-14)
    np.testing.assert_allclose(code.numpy(), expected, atol=1e-6)
    assert ((code.numpy() != 0) == (np.abs(expected) > 1e-8)).all()


def test_other_methods_and_gradients_on_a_sparse_matrix(thin):
    columns, target = thin
    x = torch.tensor(np.stack([target, -target])).requires_grad_()
    level = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    dense = torch.tensor(columns.T.toarray())
    gradients = []
    for dictionary, method in ((dense, "fista"), (columns.T, "fista"), (columns.T, "cd")):
        codes = sparse_code(x, dictionary, sa.L1(level), method=method, tol=1e-12, steps=20_000)
        gradients.append(torch.autograd.grad(codes.square().sum(), (x, level)))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], atol=1e-5, rtol=1e-5)


def test_the_batch_and_the_working_sets_agree(wide):
    columns, target = wide
    atoms = torch.tensor(columns.T[:700].copy())
    x = torch.tensor(np.stack([target, np.roll(target, 1)] * 30))
    batch = sparse_code(x, atoms, sa.L1(5.0), method="cd", tol=1e-13)
    alone = sparse_code(x[0], atoms, sa.L1(5.0), method="cd", tol=1e-13)
    torch.testing.assert_close(batch[0], alone, atol=1e-7, rtol=0)
    start = alone + 0.1 * torch.rand(700).double()
    warm = sparse_code(x[0], atoms, sa.L1(5.0), method="cd", tol=1e-13, start=start)
    torch.testing.assert_close(warm, alone, atol=1e-7, rtol=0)


def test_screening_leaves_out_only_zeros(wide):
    columns, target = wide
    signal, atoms = torch.tensor(target), MatrixDictionary(torch.tensor(columns.T.copy()))
    level = 0.3 * float(np.abs(columns.T @ target).max())
    problem = LargeLasso(signal, atoms, level, 0.0, False)
    best, *_ = problem.solve(signal.new_zeros(1500), 1000, 1e-14)
    screened = 0
    for size in (0.5, 0.9, 0.999):
        rough = size * best
        residual = signal - rough @ atoms.matrix
        ascent = atoms.matrix @ residual
        scale = (level / ascent.abs().max()).clamp(max=1)
        dual = scale * residual
        gap = residual.square().sum() / 2 + level * rough.abs().sum()
        gap = gap - signal.square().sum() / 2 + (signal - dual).square().sum() / 2
        alive = problem._may_be_used(ascent, gap, scale, atoms.norms())
        assert not best[~alive].any()
        screened = int((~alive).sum())
    assert screened > 100


def test_a_tolerance_below_the_rounding_ends(wide):
    columns, target = wide
    level = 0.1 * float(np.abs(columns.T @ target).max())
    code = solve_sparse_code(
        torch.tensor(target).float(),
        torch.tensor(columns.T.copy()).float(),
        sa.L1(level),
        method="cd",
        tol=0.0,
        steps=200,
    )
    assert float(code.distance) < 1e-5
    expected = scikit_learns(columns, target, level)
    np.testing.assert_allclose(code.codes.numpy(), expected, atol=1e-2)


@pytest.mark.parametrize("load", [load_diabetes, load_digits, load_breast_cancer])
def test_a_path_equals_scikit_learns(load):
    data = load()
    columns = data.data - data.data.mean(0)
    columns = columns[:, columns.std(0) > 0] / columns.std(0)[columns.std(0) > 0]
    target = data.target - data.target.mean()
    found = path(torch.tensor(target).double(), torch.tensor(columns.T.copy()), count=15, tol=1e-13)
    alphas = found.lambdas.numpy() / len(target)
    _, expected, _ = lasso_path(columns, target, alphas=alphas, tol=1e-13, max_iter=100_000)
    assert found.converged
    assert (found.distance <= 1e-8).all()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.codes.numpy().T, expected, atol=1e-6 * scale)
    # an entry that enters or leaves at a coefficient of the path is zero for one side only
    same = (found.codes.numpy().T != 0) == (np.abs(expected) > 1e-7 * scale)
    assert same.all()
    assert not found.codes[0].any()
    assert found.codes[-1].count_nonzero() > 5


def test_a_path_of_elastic_nets_and_of_other_penalties(wide):
    columns, target = wide
    x, atoms = torch.tensor(target), torch.tensor(columns.T.copy())
    found = path(x, atoms, penalty=sa.ElasticNet(1.0, 0.5), count=8, ratio=0.05, tol=1e-12)
    alphas = found.lambdas.numpy() / len(target)
    _, expected, _ = enet_path(
        columns, target, l1_ratio=0.5, alphas=alphas, tol=1e-12, max_iter=100_000
    )
    np.testing.assert_allclose(found.codes.numpy().T, expected, atol=1e-5)
    small = atoms[:20] / atoms[:20].norm(dim=1, keepdim=True)
    lambdas = torch.tensor([3.0, 1.0])
    logs = path(x, small, lambdas, penalty=sa.LogSum(1.0, 0.2), steps=5000)
    assert logs.codes.shape == (2, 20)
    assert logs.codes[1].count_nonzero() >= logs.codes[0].count_nonzero()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": sa.LogSum(1.0, 0.2)}, "lambdas= is needed for LogSum"),
        ({"penalty": sa.ElasticNet(1.0, 0.0)}, "lambdas= is needed for ElasticNet"),
        ({"x": torch.zeros(2, 4)}, "zero for every coefficient"),
        ({"count": 0}, "count="),
        ({"ratio": 1.0}, "ratio="),
        ({"lambdas": torch.tensor(1.0)}, "lambdas= must have shape"),
        ({"dictionary": torch.full((3, 4), torch.nan).to_sparse()}, "dictionary= holds NaN"),
        ({"dictionary": torch.eye(4).to_sparse().double()}, "convert one"),
    ],
)
def test_wrong_input_of_a_path_is_an_error(change, message):
    arguments = {"x": torch.ones(2, 4), "dictionary": torch.eye(4)}
    with pytest.raises(InputError, match=message):
        path(**(arguments | change))


def test_entries_of_a_sparse_matrix_in_any_order_and_twice():
    row, column = np.array([1, 0, 0, 0]), np.array([0, 2, 0, 2])
    matrix = scipy.sparse.csr_matrix((2, 3))
    matrix.indptr, matrix.indices = np.array([0, 3, 4]), np.array([2, 0, 2, 0])
    matrix.data = np.array([1.0, 2.0, 3.0, 4.0])
    entries = scipy.sparse.coo_matrix((np.array([4.0, 1.0, 2.0, 3.0]), (row, column)), (2, 3))
    x, dense = torch.ones(3).double(), torch.tensor([[2.0, 0.0, 4.0], [4.0, 0.0, 0.0]]).double()
    expected = sparse_code(x, dense, sa.L1(0.1), method="cd", tol=1e-12)
    mixed = scipy.sparse.csr_matrix(dense.numpy())
    mixed.indptr, mixed.indices = mixed.indptr.astype(np.int64), mixed.indices.astype(np.int32)
    for form in (matrix, entries, mixed):
        code = sparse_code(x, form, sa.L1(0.1), method="cd", tol=1e-12)
        torch.testing.assert_close(code, expected, atol=1e-6, rtol=0)


def test_a_sparse_dictionary_has_no_gradient():
    dictionary = torch.eye(4).to_sparse().requires_grad_()
    with pytest.raises(InputError, match="pass a dense one"):
        sparse_code(torch.ones(2, 4), dictionary, sa.L1(0.1))


def test_a_sparse_dictionary_equals_its_dense_form(thin):
    dense = torch.tensor(thin[0].T.toarray())
    plain, sparse = MatrixDictionary(dense), SparseDictionary(sparse_matrix(thin[0].T))
    index, codes = torch.tensor([5, 3, 599, 0]), torch.randn(3, 600, dtype=torch.float64)
    codes[:, ::2] = 0
    for left, right in (
        (plain(codes), sparse(codes)),
        (plain.combine(codes[0]), sparse.combine(codes[0])),
        (plain.adjoint(dense[:2]), sparse.adjoint(dense[:2])),
        (plain.norms(), sparse.norms()),
        (plain.products(plain.select(index)), sparse.products(sparse.select(index))),
        (plain.products(plain), sparse.products(sparse)),
        (
            plain.select(index).join(plain).matrix,
            sparse.select(index).join(sparse).matrix.to_dense(),
        ),
        (plain.select(index[:0]).matrix, sparse.select(index[:0]).matrix.to_dense()),
    ):
        torch.testing.assert_close(right, left)


@pytest.mark.parametrize("many", [1, 40])
def test_a_tolerance_that_rounding_hides_is_said(wide, many):
    x = torch.tensor(np.stack([wide[1]] * many)).float()
    atoms = torch.tensor(wide[0].T[:400].copy()).float()
    with pytest.warns(NotConvergedWarning, match=r"rounding in torch.float32 .* raise tol="):
        sparse_code(x, atoms, sa.L1(5.0), method="cd", tol=0.0, steps=10_000)
