"""Sparsemax and entmax: the condition of optimality, their limits, edges and derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize
from torch import func

import sparsact as sa
import sparsact.functional as SF

ALPHAS = [1.2, 1.5, 1.7, 2.0, 3.0]
alphas = pytest.mark.parametrize("alpha", ALPHAS)
# raised by torch.func, about its own code
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is")


def reference(row: np.ndarray, alpha: float) -> np.ndarray:
    """The definition, with τ found by Brent's method."""
    scores = (alpha - 1) * row

    def probabilities(tau: float) -> np.ndarray:
        return np.maximum(scores - tau, 0) ** (1 / (alpha - 1))

    tau = brentq(
        lambda tau: probabilities(tau).sum() - 1, scores.max() - 1, scores.max(), xtol=1e-15
    )
    return probabilities(tau)


@alphas
@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (4, 17), (2, 1000)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_equals_the_definition(alpha, shape, scale):
    x = scale * torch.randn(shape, dtype=torch.float64)
    expected = np.stack([reference(row, alpha) for row in x.numpy()])
    result = SF.entmax(x, alpha)
    torch.testing.assert_close(result, torch.from_numpy(expected), atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(result.sum(1), torch.ones(shape[0], dtype=torch.float64))


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_beats_a_general_solver(alpha):
    """It maximises ``p·x + H(p)`` with the Tsallis entropy H."""
    x = np.array([0.3, -0.1, 0.8, -1.5])

    def cost(p: np.ndarray) -> float:
        return float(-(p @ x) - (p - np.abs(p) ** alpha).sum() / (alpha * (alpha - 1)))

    found = minimize(
        cost,
        np.full(4, 0.25),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-14},
    )
    ours = SF.entmax(torch.from_numpy(x), alpha).numpy()
    assert cost(ours) <= found.fun + 1e-10
    np.testing.assert_allclose(ours, found.x, atol=1e-5)
    assert (ours == 0).any()


def test_sparsemax_and_softmax_are_its_special_cases():
    x = torch.randn(4, 6)
    assert SF.entmax(x, 2.0).equal(SF.sparsemax(x))
    assert SF.entmax(x, 1.0).equal(x.softmax(-1))
    near = SF.entmax(x.double(), 1 + 1e-4)
    torch.testing.assert_close(near, x.double().softmax(-1), atol=1e-3, rtol=0)
    inside = 2.0 + 1e-9  # the two algorithms
    torch.testing.assert_close(SF.entmax(x.double(), inside), SF.sparsemax(x.double()))
    torch.testing.assert_close(SF.entmax(x.double(), 1.5 + 1e-9), SF.entmax(x.double(), 1.5))


@alphas
@pytest.mark.parametrize("dim", [0, 1, -1, -3])
def test_every_dim(alpha, dim):
    x = torch.randn(3, 4, 5)
    moved = SF.entmax(x.movedim(dim, -1), alpha).movedim(-1, dim)
    torch.testing.assert_close(SF.entmax(x, alpha, dim), moved)
    torch.testing.assert_close(sa.nn.Entmax(alpha, dim)(x), moved)


@alphas
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(alpha, dtype):
    x = (3 * torch.randn(6, 9)).to(dtype).requires_grad_()
    result = SF.entmax(x, alpha)
    assert result.dtype == dtype
    wide = SF.entmax(x.detach().double(), alpha)
    torch.testing.assert_close(result, wide.to(dtype), atol=1e-5, rtol=1e-2)
    (grad,) = torch.autograd.grad(result.float().square().sum(), x)
    assert grad.dtype == dtype
    assert (grad[result == 0] == 0).all()
    # probabilities sum to 1 whatever x is, so the gradient of a row sums to 0
    atol = 1e-5 if dtype.itemsize > 2 else 0.05
    torch.testing.assert_close(grad.float().sum(1), torch.zeros(6), atol=atol, rtol=0)


@alphas
def test_derivatives(alpha):
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: SF.entmax(x, alpha), x)
    x = x.detach()
    jacobian = func.jacrev(lambda x: SF.entmax(x, alpha))(x)
    torch.testing.assert_close(func.jacfwd(lambda x: SF.entmax(x, alpha))(x), jacobian)
    rows = func.vmap(lambda row: SF.entmax(row, alpha))(x)
    torch.testing.assert_close(rows, SF.entmax(x, alpha))
    columns = func.vmap(lambda row: SF.entmax(row, alpha, 0), in_dims=1, out_dims=1)(x)
    torch.testing.assert_close(columns, SF.entmax(x, alpha, 0))
    grad = func.vmap(func.grad(lambda row: SF.entmax(row, alpha).square().sum()))(x)
    total = func.grad(lambda x: SF.entmax(x, alpha).square().sum())(x)
    torch.testing.assert_close(grad, total)


@alphas
def test_edges(alpha):
    inf = math.inf
    assert SF.entmax(torch.tensor([0.0, -inf, -50.0]), alpha).tolist() == [1, 0, 0]
    assert SF.entmax(torch.tensor([2.0, 2.0]), alpha).tolist() == pytest.approx([0.5, 0.5])
    for bad in (math.nan, inf):
        rows = SF.entmax(torch.tensor([[0.0, bad], [0.0, 0.0]]), alpha)
        assert rows[0].isnan().all()
        assert rows[1].tolist() == pytest.approx([0.5, 0.5])
    assert SF.entmax(torch.full((3,), -inf), alpha).isnan().all()
    assert SF.entmax(torch.tensor(-3.0), alpha).item() == 1
    assert SF.entmax(torch.empty(0, 4), alpha).shape == (0, 4)
    x = torch.tensor([1e30, -1e30, 0.0])
    assert SF.entmax(x, alpha).tolist() == [1, 0, 0]
    strided = torch.randn(6, 8).T
    torch.testing.assert_close(SF.entmax(strided, alpha), SF.entmax(strided.contiguous(), alpha))


def test_refusals():
    x = torch.ones(3)
    with pytest.raises(ValueError, match="alpha= must be at least 1"):
        SF.entmax(x, 0.5)
    with pytest.raises(ValueError, match="alpha= must be at least 1"):
        sa.nn.Entmax(math.inf)
    with pytest.raises(ValueError, match="dim=1 does not exist"):
        SF.sparsemax(x, 1)
    with pytest.raises(TypeError, match="complex numbers have no sign"):
        SF.sparsemax(x.to(torch.complex64))
    with pytest.raises(TypeError, match="expects a floating-point tensor"):
        SF.entmax(x.int())
