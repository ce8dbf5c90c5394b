"""The nuclear norm against NumPy and the condition of optimality."""

import numpy as np
import pytest
import torch

import sparsact as sa

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (7, 4), (3, 5, 4)])
@dtypes
def test_value_equals_numpy(shape, dtype):
    x = torch.randn(shape, dtype=dtype)
    expected = np.linalg.svd(x.numpy(), compute_uv=False).sum()
    assert sa.NuclearNorm(0.3)(x).item() == pytest.approx(0.3 * expected)
    assert torch.autograd.gradcheck(sa.NuclearNorm(0.3), x.requires_grad_())


@dtypes
def test_prox_fulfils_the_condition_of_optimality(dtype):
    """``x − u = s·(U·Vᴴ + W)`` with ``‖x − u‖₂ ≤ s`` and ``⟨x − u, u⟩ = s·‖u‖*``."""
    x = torch.randn(2, 6, 5, dtype=dtype)
    penalty = sa.NuclearNorm(0.8)
    u = penalty.prox(x, 1.5)
    rest = x - u
    assert (torch.linalg.matrix_norm(rest, 2) <= 1.2 + 1e-12).all()
    torch.testing.assert_close((rest.conj() * u).sum().real, 1.5 * penalty(u))
    ranks = torch.linalg.matrix_rank(u, atol=1e-9)
    assert (ranks < 5).all()
    assert (ranks > 0).all()
    torch.testing.assert_close(penalty.prox(x, 0.0), x)


def test_diagonal_matrices_are_l1():
    x = torch.randn(6)
    prox = sa.NuclearNorm(0.4).prox(torch.diag(x), 1.0)
    torch.testing.assert_close(prox, torch.diag(sa.L1(0.4).prox(x, 1.0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    x = torch.randn(5, 6).to(dtype).requires_grad_()
    value = sa.NuclearNorm(0.3)(x)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    (grad,) = torch.autograd.grad(value, x)
    assert grad.dtype == dtype
    result = sa.NuclearNorm(0.3).prox(x.detach(), 1.0)
    assert result.dtype == dtype
    wide = sa.NuclearNorm(0.3).prox(x.detach().double(), 1.0)
    torch.testing.assert_close(
        result, wide.to(dtype), atol=2e-2 if x.itemsize == 2 else 1e-5, rtol=0
    )


def test_gradient_where_the_rank_is_not_full():
    zeros = torch.zeros(3, 4, requires_grad=True)
    sa.NuclearNorm(1.0)(zeros).backward()
    assert not zeros.grad.any()
    x = torch.outer(torch.randn(5), torch.randn(4)).requires_grad_()
    sa.NuclearNorm(1.0)(x).backward()
    expected = x.detach() / x.detach().norm()  # U·Vᵀ of rank 1
    torch.testing.assert_close(x.grad, expected, atol=1e-5, rtol=0)


def test_convolution_weights_are_flattened():
    x = torch.randn(6, 3, 2, 2)
    flat = sa.NuclearNorm(0.4)
    folded = sa.NuclearNorm(0.4, flatten=True)
    torch.testing.assert_close(folded(x), flat(x.flatten(1)))
    torch.testing.assert_close(folded.prox(x, 1.0), flat.prox(x.flatten(1), 1.0).reshape(x.shape))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 3, 4)])
def test_empty(shape):
    assert sa.NuclearNorm(1.0)(torch.empty(shape)).item() == 0
    assert sa.NuclearNorm(1.0).prox(torch.empty(shape), 1.0).shape == shape


def test_completes_a_matrix():
    """Matrix completion by proximal steps on the observed entries recovers a matrix of rank 1."""
    truth = torch.outer(torch.linspace(1, 2, 12), torch.linspace(-1, 1, 10)).double()
    seen = torch.rand(12, 10) < 0.6
    u = torch.zeros_like(truth)
    for _ in range(2000):
        u = sa.NuclearNorm(0.01).prox(torch.where(seen, truth, u), 1.0)
    assert (u - truth).norm() < 0.1 * truth.norm()


def test_refusals():
    with pytest.raises(ValueError, match="needs two dims or more"):
        sa.NuclearNorm(1.0)(torch.ones(3))
    with pytest.raises(ValueError, match="its own step size"):
        sa.NuclearNorm(1.0).prox(torch.ones(3, 3), torch.ones(3, 3))
    dictionary, x = torch.eye(4), torch.ones(2, 4)
    with pytest.raises(ValueError, match="code of one signal to be a matrix"):
        sa.coding.sparse_code(x, dictionary, sa.NuclearNorm(1.0))
    with pytest.raises(ValueError, match="positive= is not implemented for NuclearNorm"):
        sa.coding.sparse_code(x, dictionary, sa.NuclearNorm(1.0), positive=True)
