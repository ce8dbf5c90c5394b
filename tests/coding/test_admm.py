"""ADMM against FISTA, coordinate descent and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Lasso

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import ConvDictionary, path, solve_sparse_code, sparse_code


@pytest.fixture(scope="module")
def digits():
    images = torch.tensor(load_digits().data) / 16
    return images[100:108], torch.nn.functional.normalize(images[:80])


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("level", [1e-2, 0.3])
def test_lasso_codes_equal_scikit_learns(digits, level, positive):
    x, atoms = digits
    code = solve_sparse_code(
        x, atoms, sa.L1(level), method="admm", tol=1e-10, steps=2000, positive=positive
    )
    assert code.converged
    assert code.method == "admm"
    model = Lasso(level / 64, fit_intercept=False, tol=1e-14, max_iter=1_000_000, positive=positive)
    for signal, found in zip(x, code.codes, strict=True):
        expected = model.fit(atoms.t().numpy(), signal.numpy()).coef_
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(
    "penalty",
    [
        sa.L1(0.1, weights=torch.linspace(0.5, 2, 80).double()),
        sa.ElasticNet(0.1, 0.6),
        sa.GroupLasso(0.05, group_size=5),
        sa.TotalVariation(0.1),
        sa.penalties.SLOPE(0.05),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
def test_it_finds_the_optimum_of_fista_in_fewer_steps(digits, penalty):
    x, atoms = digits[0][:2], digits[1]
    options = {"steps": 3000, "tol": 1e-5}
    code = solve_sparse_code(x, atoms, penalty, method="admm", **options)
    slow = solve_sparse_code(x, atoms, penalty, **options)
    assert code.converged

    def cost(codes):
        return float((x - codes @ atoms).square().sum() / 2 + penalty(codes))

    assert cost(code.codes) == pytest.approx(cost(slow.codes), rel=1e-3)
    assert code.steps < slow.steps / 2


def test_complex_codes_wide_atoms_and_signals_of_any_size():
    atoms = torch.randn(5, 9, dtype=torch.complex128)  # fewer atoms than dims
    x = torch.randn(2, 3, 9, dtype=torch.complex128) * torch.tensor([1e-3, 1.0, 30.0])[:, None]
    fast = sparse_code(x, atoms, sa.L1(0.3), method="admm", steps=2000, tol=1e-10)
    slow = sparse_code(x, atoms, sa.L1(0.3), steps=3000, tol=1e-11)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=0)


def test_gradients_warm_starts_and_paths(digits):
    x, atoms = digits[0][:2].clone().requires_grad_(), digits[1]
    options = {"method": "admm", "tol": 1e-11, "steps": 2000}
    fast = sparse_code(x, atoms, sa.L1(0.3), **options)
    exact = sparse_code(x, atoms, sa.L1(0.3), method="cd", tol=1e-14)
    gradients = [torch.autograd.grad(codes.square().sum(), x)[0] for codes in (fast, exact)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    warm = solve_sparse_code(x, atoms, sa.L1(0.3), method="admm", start=exact.detach())
    assert warm.steps == 0
    found = path(x, atoms, count=5, ratio=0.1, method="admm", steps=2000)
    assert found.converged


class Blur(torch.nn.Module):
    """A circular blur with the same blur as its adjoint."""

    def forward(self, codes):
        return 0.5 * codes + 0.25 * (codes.roll(1, -1) + codes.roll(-1, -1))

    adjoint = forward


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(
    "kind", ["convolution", "strided convolution", "sparse matrix", "own operator"]
)
@torch.no_grad()
def test_operators_reach_the_optimum_of_fista(kind, dtype):
    generator = torch.Generator().manual_seed(3)
    sizes = {"convolution": (2, 1, 12), "strided convolution": (2, 1, 12)}
    x = torch.randn(sizes.get(kind, (2, 12)), dtype=dtype, generator=generator)
    atoms = torch.randn(3, 1, 4, dtype=dtype, generator=generator)
    dictionary = {
        "convolution": ConvDictionary(atoms),
        "strided convolution": ConvDictionary(atoms, stride=2),
        "sparse matrix": torch.randn(9, 12, dtype=dtype, generator=generator).to_sparse(),
        "own operator": Blur(),
    }[kind]
    if kind == "sparse matrix" and dtype.is_complex:
        return  # refused for every method
    fast = solve_sparse_code(x, dictionary, sa.L1(0.3), method="admm", tol=1e-9)
    slow = sparse_code(x, dictionary, sa.L1(0.3), steps=20_000, tol=1e-10)
    assert fast.converged
    torch.testing.assert_close(fast.codes, slow, atol=1e-4, rtol=0)
    if not dtype.is_complex:
        narrow = dictionary.to(torch.float32)
        code = solve_sparse_code(x.float(), narrow, sa.L1(0.3), method="admm", tol=3e-5)
        assert code.converged
        assert code.codes.dtype == torch.float32


def test_an_operator_takes_the_steps_of_the_matrix_that_it_is():
    """Deblurring with total variation, where FISTA is slow."""
    x = torch.randn(2, 40, dtype=torch.float64)
    penalty, options = sa.TotalVariation(0.5), {"method": "admm", "steps": 2000, "tol": 1e-7}
    matrix = Blur()(torch.eye(40, dtype=torch.float64))
    exact = sparse_code(x, matrix, penalty, **options)
    codes = sparse_code(x, Blur(), penalty, **options)
    torch.testing.assert_close(codes, exact, atol=1e-4, rtol=0)


def test_unrolled_steps_are_refused():
    with pytest.raises(InputError, match="method='admm' needs gradient='implicit'"):
        sparse_code(torch.ones(2, 4), torch.eye(4), sa.L1(0.1), method="admm", gradient="unrolled")


@pytest.mark.parametrize("method", ["admm", "fista", "ista", "cd"])
def test_no_signals_and_narrow_floats(digits, method):
    x, atoms = digits[0].float(), digits[1].float()
    for penalty in (sa.L1(0.1), sa.L1(0.1, weights=torch.ones(80))):
        assert sparse_code(x[:0], atoms, penalty, method=method).shape == (0, 80)
    code = solve_sparse_code(x, atoms, sa.L1(0.5), method=method, steps=3000, tol=3e-5)
    assert code.converged or method == "ista"  # which takes very many steps here
    assert code.codes.dtype == torch.float32
    zero = solve_sparse_code(x, torch.zeros(5, 64), sa.L1(0.1), method=method)
    assert not zero.codes.any()
