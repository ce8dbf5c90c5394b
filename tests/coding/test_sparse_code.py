"""Sparse codes against scikit-learn, optimality conditions, and finite differences."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import ElasticNet as SklearnElasticNet
from sklearn.linear_model import Lasso

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import ConvDictionary, NotConvergedWarning, solve_sparse_code, sparse_code


@pytest.fixture(scope="module")
def digits():
    """Digits as signals, and normalised other digits as atoms: correlated, as real data are."""
    images = torch.tensor(load_digits().data) / 16
    atoms = images[:100] - images[:100].mean(1, keepdim=True)
    return images[100:150] - images[100:150].mean(1, keepdim=True), atoms / atoms.norm(
        dim=1, keepdim=True
    )


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("method", ["ista", "fista"])
def test_lasso_codes_equal_scikit_learns(digits, method, positive):
    x, atoms = digits
    tol, steps = (1e-9, 50_000) if method == "ista" else (1e-13, 20_000)
    code = solve_sparse_code(
        x[:10], atoms, sa.L1(0.3), method=method, steps=steps, tol=tol, positive=positive
    )
    expected = sparse_encode(
        x[:10].numpy(),
        atoms.numpy(),
        algorithm="lasso_cd",
        alpha=0.3,
        max_iter=100_000,
        positive=positive,
    )
    assert code.converged
    exact = torch.stack([_lasso(signal, atoms, 0.3, positive) for signal in x[:10]])
    assert torch.allclose(code.codes, exact, atol=1e-6 if method == "fista" else 1e-3)
    if method == "fista":
        assert ((code.codes != 0) == (exact != 0)).all()
    assert np.allclose(code.codes.numpy(), expected, atol=1e-3)


def _lasso(signal, atoms, alpha, positive):
    model = Lasso(
        alpha / len(signal), fit_intercept=False, tol=1e-14, max_iter=1_000_000, positive=positive
    )
    return torch.tensor(model.fit(atoms.t().numpy(), signal.numpy()).coef_)


def test_one_large_elastic_net_equals_scikit_learns():
    data = load_diabetes()
    columns, target = torch.tensor(data.data), torch.tensor(data.target - data.target.mean())
    scale = len(target)
    code = solve_sparse_code(
        target, columns.t().contiguous(), sa.ElasticNet(0.001 * scale, 0.7), steps=50_000, tol=1e-13
    )
    model = SklearnElasticNet(
        0.001, l1_ratio=0.7, fit_intercept=False, tol=1e-12, max_iter=1_000_000
    ).fit(data.data, target.numpy())
    assert code.converged
    assert code.codes.shape == (10,)
    assert np.allclose(code.codes.numpy(), model.coef_, rtol=1e-5, atol=1e-5)


def test_group_codes_satisfy_the_optimality_condition(digits):
    x, atoms = digits
    penalty = sa.GroupLasso(0.1, group_size=5)
    code = solve_sparse_code(x[:5], atoms, penalty, steps=50_000, tol=1e-12)
    assert code.converged
    correlation = ((x[:5] - code.codes @ atoms) @ atoms.t()).view(5, 20, 5)
    codes = code.codes.view(5, 20, 5)
    size = codes.norm(dim=2, keepdim=True)
    level = 0.1 * 5**0.5
    zero = size.squeeze(2) == 0
    assert zero.any()
    assert not zero.all()
    assert (correlation.norm(dim=2)[zero] <= level + 1e-5).all()
    active = ~zero
    expected = level * codes / size.clamp(min=1e-30)
    assert torch.allclose(correlation[active], expected[active], atol=1e-4)


@pytest.mark.parametrize("penalty", [sa.L1(0.2), sa.ElasticNet(0.3, 0.5), sa.LogSum(0.05, 0.2)])
def test_the_distance_is_an_upper_bound_of_what_is_missing(digits, penalty):
    x, atoms = digits
    few = solve_sparse_code(x, atoms, penalty, steps=30, tol=0)
    assert few.steps == 30
    assert not few.converged
    if isinstance(penalty, sa.LogSum):
        return
    best = solve_sparse_code(x, atoms, penalty, steps=20_000, tol=1e-12)

    def objective(codes):
        fit = (x - codes @ atoms).square().sum(1) / 2
        return fit + torch.stack([penalty(code) for code in codes])

    missing = (objective(few.codes) - objective(best.codes)) / (x.square().sum(1) / 2)
    assert (missing <= few.distance + 1e-10).all()
    assert (few.distance >= 0).all()


def test_a_tensor_above_the_largest_useful_lambda_gives_zero(digits):
    x, atoms = digits
    largest = float((x @ atoms.t()).abs().max())
    code = solve_sparse_code(x, atoms, sa.L1(largest * 1.0001))
    assert code.converged
    assert code.steps == 0
    assert not code.codes.any()


def test_warm_start_takes_fewer_steps(digits):
    x, atoms = digits
    cold = solve_sparse_code(x, atoms, sa.L1(0.2), steps=5000, tol=1e-8)
    warm = solve_sparse_code(x, atoms, sa.L1(0.2), steps=5000, tol=1e-8, start=cold.codes)
    assert warm.steps == 0
    assert cold.steps > 20


def test_leading_dims_and_dtypes(digits):
    x, atoms = digits
    flat = sparse_code(x[:6], atoms, sa.L1(0.5))
    stacked = sparse_code(x[:6].view(2, 3, 64), atoms, sa.L1(0.5))
    assert torch.equal(stacked, flat.view(2, 3, 100))
    narrow = sparse_code(x[:6].float(), atoms.float(), sa.L1(0.5), tol=1e-5)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.double(), flat, atol=2e-2)


@pytest.mark.parametrize("gradient", ["implicit", "unrolled"])
def test_gradients_against_finite_differences(gradient):
    torch.manual_seed(1)
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    orthogonal = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q[:6]
    atoms = (orthogonal + 0.1 * torch.randn(6, 8, dtype=torch.float64)).requires_grad_()
    level = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def codes(x, atoms, level):
        return sparse_code(x, atoms, sa.L1(level), steps=100, tol=1e-13, gradient=gradient)

    assert torch.autograd.gradcheck(codes, (x, atoms, level), eps=1e-6, atol=1e-5)


def test_implicit_gradient_of_an_elastic_net():
    torch.manual_seed(2)
    x = torch.randn(2, 8, dtype=torch.float64, requires_grad=True)
    atoms = torch.randn(12, 8, dtype=torch.float64, requires_grad=True)  # more atoms than dims

    def codes(x, atoms):
        return sparse_code(x, atoms, sa.ElasticNet(0.8, 0.6), steps=20_000, tol=1e-13)

    assert torch.autograd.gradcheck(codes, (x, atoms), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_convolution_equals_the_matrix_that_it_is(dims):
    size, atom, stride = 7, 3, 2
    dictionary = ConvDictionary(torch.randn(2, 1, *[atom] * dims, dtype=torch.float64), stride)
    x = torch.randn(2, 1, *[size] * dims, dtype=torch.float64)
    shape = dictionary.adjoint(x)[0].shape
    basis = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)
    matrix = dictionary(basis).flatten(1).detach()
    with torch.no_grad():
        codes = sparse_code(x, dictionary, sa.L1(0.3), steps=20_000, tol=1e-12)
    expected = sparse_code(x.flatten(1), matrix, sa.L1(0.3), steps=20_000, tol=1e-12)
    assert torch.allclose(codes.flatten(1), expected, atol=1e-5)


def test_steps_that_do_not_suffice_are_said(digits):
    x, atoms = digits
    with pytest.warns(NotConvergedWarning, match="raise steps="):
        sparse_code(x, atoms, sa.L1(0.01), steps=2)


@pytest.mark.parametrize("method", ["fista", "ista", "admm", "cd"])
def test_rounding_ends_the_steps_and_is_said(digits, method):
    x, atoms = (values[:3].float() for values in digits)
    with pytest.warns(NotConvergedWarning, match="rounding in torch.float32 ends it there"):
        sparse_code(x, atoms, sa.L1(0.01), method=method, steps=20_000, tol=1e-12)


class Crooked(torch.nn.Module):
    def forward(self, codes):
        return 2 * codes

    def adjoint(self, signals):
        return signals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.randn(2, 5)}, "does not fit atoms of dim 4"),
        ({"x": torch.full((2, 4), torch.nan)}, "x= holds NaN"),
        ({"x": torch.ones(2, 4).bfloat16()}, "float32 or float64"),
        ({"dictionary": torch.empty(0, 4)}, "at least one atom"),
        ({"dictionary": torch.eye(4).double()}, "convert one"),
        ({"dictionary": torch.full((3, 4), torch.inf)}, "dictionary= holds NaN"),
        ({"dictionary": torch.nn.Linear(4, 3)}, "a method adjoint"),
        ({"dictionary": Crooked()}, "is not its adjoint"),
        ({"penalty": sa.Hoyer(1.0)}, "no proximal operator"),
        ({"penalty": sa.GroupLasso(1.0, dim=0)}, "within the code of one signal"),
        ({"method": "newton"}, "method="),
        ({"gradient": "exact"}, "gradient="),
        ({"steps": 0}, "steps="),
        ({"start": torch.zeros(3, 4)}, "start= must have shape"),
    ],
)
def test_wrong_input_is_one_clear_error(change, message):
    arguments = {"x": torch.randn(2, 4), "dictionary": torch.eye(4), "penalty": sa.L1(0.1)}
    with pytest.raises(InputError, match=message):
        sparse_code(**(arguments | change))


def test_convolutions_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="stride="):
        ConvDictionary(torch.ones(1, 1, 3), stride=4)
    with pytest.raises(InputError, match="atoms="):
        ConvDictionary(torch.ones(3, 3))
    with pytest.raises(InputError, match="pad them"):
        ConvDictionary(torch.ones(1, 1, 3), stride=2).adjoint(torch.ones(1, 1, 6))
