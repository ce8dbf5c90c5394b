"""Forward mode, second derivatives and per-sample gradients of every penalty."""

import pytest
import torch
from torch import Tensor, func, nn

import sparsact as sa
from cases import PENALTIES, by_name
from sparsact.penalties.activity_layer import ActivityPenalty

pytestmark = [
    pytest.mark.versions,
    # raised by torch.func, about its own code
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
]
penalties = pytest.mark.parametrize("case", PENALTIES, ids=by_name)
X = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@penalties
def test_tangent_is_the_inner_product_with_the_gradient(case):
    x, direction = case.domain(X), X.cos()
    value, tangent = func.jvp(case.penalty, (x,), (direction,))
    torch.testing.assert_close(value, case.penalty(x))
    torch.testing.assert_close(tangent, (func.grad(case.penalty)(x) * direction).sum())
    torch.testing.assert_close(func.jacfwd(case.penalty)(x), func.grad(case.penalty)(x))
    _, push = func.linearize(case.penalty, x)
    torch.testing.assert_close(push(direction), tangent)


@penalties
def test_hessian(case):
    x = case.domain(X)
    hessian = func.hessian(case.penalty)(x)
    torch.testing.assert_close(hessian, func.jacrev(func.jacrev(case.penalty))(x))
    torch.testing.assert_close(hessian, func.jacrev(func.jacfwd(case.penalty))(x))
    if case.exact:
        torch.testing.assert_close(hessian, func.hessian(lambda x: case.terms(x).sum())(x))


@penalties
def test_gradient_of_each_sample(case):
    samples = case.domain(X)[:, None]
    each = torch.stack([func.grad(case.penalty)(sample) for sample in samples])
    torch.testing.assert_close(func.vmap(func.grad(case.penalty))(samples), each)


@penalties
def test_tangent_of_the_prox(case):
    if not case.proximal:
        return
    direction = X.cos()
    _, tangent = func.jvp(lambda x: case.penalty.prox(x, 0.3), (X,), (direction,))
    leaf = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad((case.penalty.prox(leaf, 0.3) * direction).sum(), leaf)
    torch.testing.assert_close((tangent * direction).sum(), (grad * direction).sum())


@pytest.mark.parametrize("module", [sa.nn.JumpReLU, sa.nn.Softshrink])
@pytest.mark.parametrize("channels", [1, 8])
def test_l0_with_a_learned_threshold(module, channels):
    threshold = module(0.4, learnable=True, num_parameters=channels, channel_dim=-1).double()
    penalty = sa.L0(0.7, threshold=threshold, bandwidth=0.5)

    def run(x: Tensor, lambd: Tensor) -> Tensor:
        class Counter(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.threshold = threshold

            def forward(self, x: Tensor) -> Tensor:
                return penalty(x)

        return func.functional_call(Counter(), {"threshold.lambd": lambd}, (x,))

    inputs = X, threshold.lambd.detach()
    grads = func.grad(run, (0, 1))(*inputs)
    assert all((grad != 0).any() for grad in grads)
    tangents = X.cos(), inputs[1].cos()
    _, tangent = func.jvp(run, inputs, tangents)
    expected = sum((a * b).sum() for a, b in zip(grads, tangents, strict=True))
    torch.testing.assert_close(tangent, expected)


def test_the_penalty_layer_is_the_identity_in_forward_mode():
    """Its penalty joins gradients, and so second derivatives, but not tangents."""
    layer, x = ActivityPenalty(sa.L2(0.3), "sum"), X[0]
    output, tangent = func.jvp(layer, (x,), (x.cos(),))
    assert output.equal(x)
    assert tangent.equal(x.cos())

    def loss(x: Tensor) -> Tensor:
        return layer(x).sin().sum()

    expected = func.grad(lambda x: x.sin().sum() + 0.3 * x.square().sum())
    torch.testing.assert_close(func.grad(loss)(x), expected(x))
    torch.testing.assert_close(func.hessian(loss)(x), func.jacfwd(expected)(x))
