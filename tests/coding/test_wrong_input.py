"""Wrong input is one clear error, or one line, in every function of sparse coding."""

import numpy as np
import pytest
import scipy.sparse
import torch

import sparsact as sa
from sparsact import coding

X, ATOMS = torch.randn(4, 6), torch.randn(9, 6)
L1 = sa.L1(0.1)
NAN = float("nan")


class Operator(torch.nn.Module):
    def __init__(self, forward, adjoint):
        super().__init__()
        self.forward, self.adjoint = forward, adjoint


def code(x=X, dictionary=ATOMS, penalty=L1, **options):
    return coding.sparse_code(x, dictionary, penalty, **options)


def conv(channels=1, dtype=torch.float32, dims=3):
    x = torch.ones((4, channels, 6)[-dims:], dtype=dtype)
    return code(x, coding.ConvDictionary(torch.ones(2, 1, 3)))


WRONG_ADJOINTS = {
    "scaled": Operator(lambda z: 2 * z, lambda x: 3 * x),
    "conjugate forgotten": Operator(lambda z: 1j * z, lambda x: 1j * x),
    "not linear": Operator(torch.relu, lambda x: x),
    "not through 0": Operator(lambda z: z + 1, lambda x: x),
    "shifted": Operator(lambda z: z.roll(1, -1), lambda x: x.roll(1, -1)),
}


@pytest.mark.parametrize("name", WRONG_ADJOINTS)
@pytest.mark.parametrize("solve", [code, coding.path, coding.solve_sparse_code])
def test_an_adjoint_that_is_none(name, solve):
    x = X.cfloat() if name == "conjugate forgotten" else X
    arguments = (x, WRONG_ADJOINTS[name]) if solve is coding.path else (x, WRONG_ADJOINTS[name], L1)
    with pytest.raises(ValueError, match="is not its adjoint"):
        solve(*arguments)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: code(X.numpy()), "x= must be a tensor, got ndarray"),
        (lambda: code([1.0, 2.0]), "x= must be a tensor, got list"),
        (lambda: code(X.long()), "x= must be float32 or float64"),
        (lambda: code(torch.tensor(1.0)), "does not fit atoms of dim 6"),
        (lambda: code(X * 1e20), "x= has entries up to .*e[+]20, whose squares do not fit"),
        (lambda: code(X * 1e-22), "x= has entries up to .*e-22, whose squares do not fit"),
        (lambda: code(dictionary=ATOMS * 1e20), "dictionary= has entries up to .*do not fit"),
        (lambda: code(dictionary=ATOMS * 1e-22), "dictionary= has entries up to .*do not fit"),
        (lambda: coding.LISTA(ATOMS * 1e20, 2), "dictionary= has entries up to .*do not fit"),
        (lambda: code(dictionary=ATOMS.numpy()), "dictionary= must be a matrix or a module"),
        (lambda: code(dictionary=ATOMS[0]), r"must be \(atoms, dim\) with at least one atom"),
        (lambda: code(dictionary=ATOMS.numpy().T * scipy.sparse.eye(9)), "dictionary= must be"),
        (lambda: code(dictionary=scipy.sparse.csr_matrix(ATOMS.numpy().T)), "does not fit atoms"),
        (lambda: code(dictionary=scipy.sparse.csr_matrix(ATOMS.numpy() * NAN)), "holds NaN"),
        (lambda: code(dictionary=Operator(lambda z: NAN * z, lambda x: x)), "not finite"),
        (lambda: code(dictionary=Operator(lambda z: z.double(), lambda x: x)), "torch.float64"),
        (lambda: code(dictionary=Operator(lambda z: (z,), lambda x: x)), "must be a tensor"),
        (lambda: code(dictionary=Operator(lambda z: z, lambda x: (x,))), "must be a tensor"),
        (lambda: code(dictionary=Operator(lambda z: z[:, :5], lambda x: x)), "maps codes of"),
        (lambda: code(penalty=0.1), "penalty= must be a penalty such as L1"),
        (lambda: code(penalty=torch.nn.ReLU()), "penalty= must be a penalty such as L1"),
        (lambda: code(penalty=sa.KLSparsity(0.1)), "has no proximal operator"),
        (lambda: code(penalty=sa.L1(0.1, weights=torch.ones(8))), "weights= of shape"),
        (lambda: code(steps=2.5), "steps= must be at least 1 and an integer"),
        (lambda: code(steps=True), "steps= must be at least 1 and an integer"),
        (lambda: code(tol=NAN), "tol= must be at least 0"),
        (lambda: code(start=torch.full((4, 9), NAN)), "start= holds NaN"),
        (lambda: code(start=[0.0]), "start= must be a tensor"),
        (lambda: conv(dims=2), r"signals must be \(batch, 1, size\)"),
        (lambda: conv(channels=2), r"signals must be \(batch, 1, size\)"),
        (lambda: conv(dtype=torch.float64), "in torch.float32"),
        (lambda: coding.ConvDictionary(torch.ones(0, 1, 3)), "at least one atom"),
        (lambda: coding.ConvDictionary(torch.full((2, 1, 3), NAN)), "atoms= holds NaN"),
        (lambda: coding.ConvDictionary(np.ones((2, 1, 3))), "atoms= must be a tensor"),
        (lambda: coding.ConvDictionary(torch.ones(2, 1, 3), 1.5), "stride= must be at least 1"),
        (lambda: coding.path(X, ATOMS, torch.tensor([NAN])), "must be finite and not negative"),
        (lambda: coding.path(X, ATOMS, []), r"lambdas= must have shape \(n,\)"),
        (lambda: coding.path(0 * X, ATOMS), "zero for every coefficient"),
        (lambda: coding.fit_dictionary(X.numpy(), 3), "data= must be a tensor"),
        (lambda: coding.fit_dictionary(X.cfloat(), 3), "hold real signals"),
        (lambda: coding.fit_dictionary(X[:0], 3), "data= must not be empty"),
        (lambda: coding.fit_dictionary(torch.tensor(1.0), 3), "hold real signals"),
        (lambda: coding.fit_dictionary(X, 0), "atoms= must be at least 1"),
        (lambda: coding.fit_dictionary(X, 2.5), "atoms= must be at least 1 and an integer"),
        (lambda: coding.fit_dictionary(X, 3, sa.Hoyer(0.1)), "has no proximal operator"),
        (lambda: coding.fit_dictionary(NAN * X, 3), "holds NaN"),
    ],
)
def test_one_clear_error(run, message):
    with pytest.raises(ValueError, match=message):
        run()


@pytest.mark.parametrize("kind", [coding.LISTA, coding.ALISTA])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0 * ATOMS, 3), "holds zeros only"),
        ((NAN * ATOMS, 3), "holds NaN"),
        ((ATOMS.numpy(), 3), "dictionary= must be a tensor"),
        ((ATOMS.long(), 3), "floating point"),
        (((6, 0), 3), "atoms of dictionary= must be at least 1"),
        ((ATOMS, 2.5), "steps= must be"),
        ((ATOMS, 3, -0.1), "lambd= must be finite and not negative, got -0.1"),
    ],
)
def test_networks(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(*arguments)
    with pytest.raises(ValueError, match="does not fit atoms of dim 6"):
        kind(ATOMS, 3)(X[:, :5])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: coding.ALISTA(torch.cat([ATOMS, 0 * X[:1]]), 3), "an atom of zeros"),
        (lambda: coding.ConvLISTA(torch.zeros(2, 1, 3), 3), "holds zeros only"),
        (
            lambda: coding.ConvLISTA([torch.ones(2, 1, 3), np.ones((2, 1, 3))], 3, stride=[1, 1]),
            "te",
        ),
        (lambda: coding.ConvLISTA(torch.full((2, 1, 3), NAN), 3), "holds NaN"),
        (lambda: coding.ConvLISTA(torch.ones(2, 1, 3), 3, -1.0), "got -1.0"),
        (lambda: coding.ConvLISTA(torch.ones(2, 1, 3), 0), "steps= must be at least 1"),
    ],
)
def test_other_networks(run, message):
    with pytest.raises(ValueError, match=message):
        run()


@pytest.mark.parametrize("method", ["fista", "ista", "cd", "admm"])
@pytest.mark.parametrize("penalty", [sa.L1(1e3), sa.ElasticNet(1e3)])
def test_a_coefficient_above_the_largest_useful_one_is_said(method, penalty):
    with pytest.warns(coding.ZeroCodeWarning, match="all codes are zero: the coefficient of"):
        assert not code(penalty=penalty, method=method).any()


def test_a_path_and_a_dictionary_of_zero_codes_are_said():
    with pytest.warns(coding.ZeroCodeWarning, match="zero at every coefficient"):
        coding.path(X, ATOMS, [1e4, 1e3])
    for method in ("alternating", "online"):
        with pytest.warns(coding.ZeroCodeWarning, match="nothing was learned"):
            coding.fit_dictionary(X, 3, sa.L1(1e3), method=method)


@pytest.mark.parametrize("unit", [1e-17, 1e-60, 1e60])
@pytest.mark.parametrize("method", ["fista", "cd", "admm"])
def test_codes_do_not_depend_on_the_unit(unit, method):
    x, atoms, limits = X.double(), ATOMS.double(), {"method": method, "tol": 1e-10, "steps": 9000}
    expected = code(x, atoms, **limits)
    codes = code(unit * x, atoms, sa.L1(0.1 * unit), **limits)
    torch.testing.assert_close(codes / unit, expected, rtol=1e-6, atol=1e-6)
    level = torch.tensor(0.1 * unit, dtype=torch.float64, requires_grad=True)
    code(unit * x, atoms, sa.L1(level), **limits).sum().backward()
    reference = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    code(x, atoms, sa.L1(reference), **limits).sum().backward()
    torch.testing.assert_close(level.grad, reference.grad, rtol=1e-4, atol=0)


def test_atoms_of_zeros_have_no_code():
    dictionary = torch.cat([ATOMS, torch.zeros(2, 6)])
    limits = {"tol": 1e-5, "steps": 3000}
    fitted = code(**limits) @ ATOMS
    for method in ("fista", "cd", "admm"):
        codes = code(dictionary=dictionary, method=method, **limits)
        assert not codes[:, 9:].any()
        torch.testing.assert_close(codes[:, :9] @ ATOMS, fitted, atol=2e-2, rtol=0)


def test_sizes_give_random_atoms_of_norm_one():
    for kind in (coding.LISTA, coding.ALISTA):
        net = kind((6, 9), 2)
        decoder = net.decoders[0] if kind is coding.LISTA else net.decoder
        torch.testing.assert_close(decoder.norm(dim=1), torch.ones(9))
        assert net(X).shape == (4, 9)
