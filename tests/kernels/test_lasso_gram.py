import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet

from sparsact.kernels import lasso as lasso
from sparsact.kernels.reference import lasso_reference as reference

solve = torch.ops.sparsact.lasso_gram


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def problem(signals, atoms, dim, dtype=torch.float64, level=0.3):
    """Arguments up to the codes to start from, and the data that they come from."""
    generator = torch.Generator().manual_seed(atoms)
    dictionary = torch.randn(atoms, dim, generator=generator, dtype=torch.float64).to(dtype)
    x = torch.randn(signals, dim, generator=generator, dtype=torch.float64).to(dtype)
    correlation = x @ dictionary.t()
    levels = torch.full((atoms,), level, dtype=dtype)
    tensors = (correlation, dictionary @ dictionary.t(), x.square().sum(1), levels)
    return (*tensors, torch.zeros_like(correlation)), x, dictionary


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.4])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 7, 5), (5, 5, 9), (2, 20, 8)], ids=str)
def test_equals_scikit_learn_and_the_reference(sizes, ridge, positive):
    arguments, x, dictionary = problem(*sizes)
    codes, gap, _ = solve(*arguments, ridge, positive, 10_000, 1e-14)
    again = reference.lasso_gram(*arguments, ridge, positive, 10_000, 1e-9)
    assert (gap <= 1e-14).all()
    torch.testing.assert_close(codes, again[0], atol=1e-3, rtol=0)
    for signal, code in zip(x, codes, strict=True):
        dim = len(signal)
        alpha = (0.3 + ridge) / dim
        model = ElasticNet(
            alpha,
            l1_ratio=0.3 / (0.3 + ridge),
            fit_intercept=False,
            tol=1e-14,
            max_iter=100_000,
            positive=positive,
        )
        expected = model.fit(dictionary.t().numpy(), signal.numpy()).coef_
        np.testing.assert_allclose(code.numpy(), expected, atol=1e-5)
        assert ((code.numpy() != 0) == (np.abs(expected) > 1e-9)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_gap_is_that_of_the_definition(dtype):
    arguments, x, dictionary = problem(4, 30, 10, dtype)
    for rounds in (0, 1, 3):
        codes, gap, taken = solve(*arguments, 0.0, False, rounds, 0.0)
        assert taken.tolist() == [rounds] * 4
        residual = x.double() - codes.double() @ dictionary.double()
        largest = (residual @ dictionary.double().t()).abs().amax(1)
        dual = residual * (0.3 / largest).clamp(max=1)[:, None]
        energy = x.double().square().sum(1) / 2
        primal = residual.square().sum(1) / 2 + 0.3 * codes.double().abs().sum(1)
        expected = primal - energy + (x.double() - dual).square().sum(1) / 2
        torch.testing.assert_close(gap.double(), expected / energy, atol=1e-5, rtol=1e-4)
        again = reference.relative_gap(codes, *arguments[:4], 0.0, False)
        torch.testing.assert_close(gap, again, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_gap_that_only_rounding_moves_ends_the_rounds(dtype):
    arguments, *_ = problem(20, 60, 12, dtype)
    codes, gap, taken = solve(*arguments, 0.0, False, 10_000, 0.0)
    assert (taken < 1000).all()
    assert (gap <= 1000 * torch.finfo(dtype).eps).all()
    wide = [tensor.double() for tensor in arguments]
    true_gap = reference.relative_gap(codes.double(), *wide[:4], 0.0, False)
    assert (true_gap <= 2000 * torch.finfo(dtype).eps).all()


def test_each_atom_has_its_level():
    arguments, *_ = problem(3, 20, 6)
    correlation, gram, energy, level, start = arguments
    scale = torch.linspace(0.5, 2, 20, dtype=torch.float64)
    codes, *_ = solve(correlation, gram, energy, level * scale, start, 0.0, False, 1000, 1e-13)
    scaled = gram / scale / scale[:, None]
    same, *_ = solve(correlation / scale, scaled, energy, level, start, 0.0, False, 1000, 1e-13)
    torch.testing.assert_close(codes * scale, same, atol=1e-6, rtol=0)


def test_equal_atoms_and_atoms_of_zeros():
    arguments, x, dictionary = problem(3, 6, 4)
    twice = torch.cat([dictionary, dictionary, torch.zeros_like(dictionary)])
    correlation, gram = x @ twice.t(), twice @ twice.t()
    level, start = torch.full((18,), 0.3, dtype=torch.float64), torch.zeros_like(correlation)
    codes, gap, _ = solve(correlation, gram, arguments[2], level, start, 0.0, False, 1000, 1e-13)
    once, *_ = solve(*arguments, 0.0, False, 1000, 1e-13)
    assert (gap <= 1e-13).all()
    torch.testing.assert_close(codes[:, :6] + codes[:, 6:12], once, atol=1e-6, rtol=0)
    assert not codes[:, 12:].any()


def test_a_start_that_is_the_solution_takes_no_round():
    arguments, *_ = problem(4, 30, 10)
    codes, *_ = solve(*arguments, 0.0, False, 1000, 1e-9)
    transposed = codes.t().contiguous().t()  # not contiguous
    again, _, rounds = solve(*arguments[:4], transposed, 0.0, False, 1000, 1e-9)
    assert torch.equal(again, codes)
    assert not rounds.any()


def test_signals_of_zeros_and_no_signals():
    arguments, *_ = problem(2, 5, 3)
    correlation, gram, energy, level, start = arguments
    for rows in (2, 0):
        tensors = (0 * correlation[:rows], gram, 0 * energy[:rows], level, start[:rows])
        codes, gap, rounds = solve(*tensors, 0.0, False, 10, 1e-6)
        assert codes.shape == (rows, 5)
        assert not codes.any()
        assert not gap.any()
        assert not rounds.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.versions
def test_opcheck(dtype):
    arguments, *_ = problem(3, 8, 5, dtype)
    tests = ["test_schema", "test_faketensor"]  # there is no gradient
    torch.library.opcheck(solve, (*arguments, 0.0, False, 10, 1e-5), test_utils=tests)
