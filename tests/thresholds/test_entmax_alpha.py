"""Entmax whose α is a tensor: its gradient, its limit at 1, one α per row, and refusals."""

import pytest
import torch
from torch import func, nn

import sparsact as sa
import sparsact.functional as SF

# raised by torch.func, about its own code
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is")


@pytest.mark.parametrize("alpha", [1.00005, 1.001, 1.2, 1.5, 1.7, 2.0, 3.0])
def test_gradients_by_finite_differences(alpha):
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    level = torch.full((3, 1), alpha, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SF.entmax, (x, level), rtol=2e-3, atol=1e-4)
    jacobian = func.jacrev(SF.entmax, argnums=(0, 1))(x.detach(), level.detach())
    forward = func.jacfwd(SF.entmax, argnums=(0, 1))(x.detach(), level.detach())
    torch.testing.assert_close(forward, jacobian)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_values_are_those_of_a_number(alpha, dtype):
    x = (3 * torch.randn(5, 9)).to(dtype)
    level = torch.tensor(alpha, requires_grad=True)
    result, wide = SF.entmax(x, level), SF.entmax(x.double(), alpha)
    assert result.dtype == dtype
    torch.testing.assert_close(result, wide.to(dtype), atol=1e-6, rtol=1e-2)
    result.float().square().sum().backward()
    step = 1e-4
    up, down = (SF.entmax(x.double(), alpha + s).square().sum() for s in (step, -step))
    assert level.grad.item() == pytest.approx((up - down).item() / (2 * step), rel=0.02, abs=1e-3)


def test_the_other_library():
    entmax = pytest.importorskip("entmax")
    x = torch.randn(4, 7, dtype=torch.float64)
    for alpha in (1.2, 1.5, 1.9):
        results = []
        for function in (SF.entmax, entmax.entmax_bisect):
            inputs = x.clone().requires_grad_(), torch.tensor(alpha).double().requires_grad_()
            values = function(*inputs)
            results.append((values, *torch.autograd.grad(values.pow(3).sum(), inputs)))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_softmax_is_the_limit_and_alpha_reflects_there():
    x = torch.randn(4, 6, dtype=torch.float64)
    at_one = SF.entmax(x, torch.tensor(1.0))
    torch.testing.assert_close(at_one, x.softmax(-1), atol=1e-5, rtol=0)
    for below, above in ((0.7, 1.3), (0.0, 2.0)):
        results = [
            SF.entmax(x, torch.tensor(value, dtype=torch.float64)) for value in (below, above)
        ]
        torch.testing.assert_close(*results)


@pytest.mark.parametrize("dim", [1, -1, 2, -2, 0])
def test_one_alpha_per_row(dim):
    x = torch.randn(2, 3, 4)
    shape = [1 if d == dim % 3 else n for d, n in enumerate(x.shape)]
    alpha = 1.2 + torch.rand(shape)
    result = SF.entmax(x, alpha, dim).movedim(dim, -1)
    rows = zip(x.movedim(dim, -1).reshape(-1, x.shape[dim]), alpha.flatten(), strict=False)
    expected = [SF.entmax(row, value.item()) for row, value in rows]
    if dim in (2, -1):  # the rows and the α have one order
        torch.testing.assert_close(result.reshape(-1, 4), torch.stack(expected))
    torch.testing.assert_close(result.sum(-1), torch.ones(result.shape[:-1]))


def test_heads_learn_their_alpha():
    torch.manual_seed(0)
    heads = sa.nn.Entmax(1.5, learnable=True, num_parameters=2)
    x = torch.randn(8, 2, 5)
    targets = torch.stack([SF.entmax(x[:, 0], 1.2), SF.entmax(x[:, 1], 1.9)], 1)
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (heads(x) - targets).square().sum().backward()
        optimizer.step()
    assert heads.alpha.tolist() == pytest.approx([1.2, 1.9], abs=0.02)
    fresh = sa.nn.Entmax(learnable=True, num_parameters=2)
    fresh.load_state_dict(heads.state_dict())
    assert fresh(x).equal(heads(x))
    assert "learnable=True, num_parameters=2" in repr(fresh)


def test_compiled_and_mapped():
    torch._dynamo.reset()
    module, x = sa.nn.Entmax(1.3, learnable=True), torch.randn(4, 6)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), module(x))
    rows = func.vmap(lambda row: SF.entmax(row, module.alpha.reshape(())))(x)
    torch.testing.assert_close(rows, module(x))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: SF.entmax(torch.ones(2, 3), torch.full((3,), 1.5)), "size at dim -1 must be 1"),
        (lambda: SF.entmax(torch.ones(2, 3), torch.full((4, 1), 1.5)), "alpha="),
        (lambda: sa.nn.Entmax(1.0, learnable=True), "must be above 1"),
        (lambda: sa.nn.Entmax(1.5, num_parameters=2), "set learnable=True"),
        (lambda: sa.nn.Entmax(1.5, learnable=True, num_parameters=0), "must be at least 1"),
        (
            lambda: nn.Sequential(sa.nn.Entmax(learnable=True, num_parameters=2))(torch.ones(1, 3)),
            "num_parameters=2 does not fit dim 1",
        ),
    ],
)
def test_refusals(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_refuses_integers():
    with pytest.raises(TypeError, match="alpha= must be a number or a floating-point tensor"):
        SF.entmax(torch.ones(3), torch.tensor(2))
