"""Forward mode, second derivatives and per-sample gradients of every threshold."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, func, nn
from torch.autograd import forward_ad

import sparsact as sa
import sparsact.functional as SF
from cases import MODULES, PLAIN, THRESHOLDS, PlainCase, by_name
from compiled_errors import in_compiled_code
from sparsact.thresholds.fused_dispatch import fuse_from

pytestmark = [
    pytest.mark.versions,
    # raised by torch.func, about its own code
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
]
thresholds = pytest.mark.parametrize("case", THRESHOLDS, ids=by_name)
functions = pytest.mark.parametrize("case", [*THRESHOLDS, *PLAIN], ids=by_name)
fused = pytest.mark.parametrize("smallest", [0, math.inf], ids=["fused", "plain"])
X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
KINKS = torch.tensor([-2.0, -1.5, -1.0, -0.4, -0.1, -0.0, 0.0, 0.1, 0.4, 0.8, 1.0, 1.5, 1.48])
LEVELS = {"one": torch.tensor(0.4), "per channel": torch.linspace(0.1, 0.8, 8)}
levels = pytest.mark.parametrize("lambd", LEVELS.values(), ids=LEVELS)


def total(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A scalar whose derivatives of every order differ from 0."""
    return lambda *inputs: (function(*inputs).sin() + function(*inputs).square()).sum()


def assert_tangent_is_transposed_gradient(function: Callable[..., Any], *inputs: Any) -> None:
    """``⟨w, J·v⟩ = ⟨Jᵀ·w, v⟩``: forward and reverse mode have the same Jacobian."""
    tangents = torch.utils._pytree.tree_map(torch.randn_like, inputs)
    output, tangent = func.jvp(function, inputs, tangents)
    weight = torch.randn_like(output)
    gradients = func.vjp(function, *inputs)[1](weight)
    flat = torch.utils._pytree.tree_leaves
    reverse = sum((a * b).sum() for a, b in zip(flat(gradients), flat(tangents), strict=True))
    torch.testing.assert_close((weight * tangent).sum(), reverse, rtol=1e-4, atol=1e-4)
    assert tangent.dtype == output.dtype


@thresholds
@levels
@fused
def test_tangent_is_the_transposed_gradient(case, lambd, smallest):
    x = KINKS if lambd.ndim == 0 else X
    with fuse_from(smallest):
        for dtype in (torch.float64, torch.float32):
            inputs = x.to(dtype), lambd.to(dtype)
            assert_tangent_is_transposed_gradient(case, *inputs)
            assert_tangent_is_transposed_gradient(lambda x: case(x, 0.4), inputs[0])
        half, level = X.bfloat16(), torch.tensor(0.4)
        _, tangent = func.jvp(lambda x: case(x, level), (half,), (torch.ones_like(half),))
        leaf = half.clone().requires_grad_()
        torch.testing.assert_close(
            tangent, torch.autograd.grad(case(leaf, level).sum(), leaf)[0], rtol=0.01, atol=0.01
        )


@pytest.mark.parametrize("case", PLAIN, ids=by_name)
def test_tangent_of_plain_functions(case):
    for x in (X.double(), X, KINKS[None].double()):
        assert_tangent_is_transposed_gradient(case.function, x)
        torch.testing.assert_close(func.jacfwd(case.function)(x), func.jacrev(case.function)(x))


@thresholds
def test_derivatives_of_a_plain_composite(case):
    """Against torch's own derivatives of the published formula, away from the kinks."""
    x, lambd = torch.tensor([[-1.3, -0.7, 0.9, 2.0, 1.7]]).double(), torch.tensor(0.4).double()

    def published(x: Tensor, lambd: Tensor) -> Tensor:
        if case.name == "clip":
            return torch.minimum(torch.maximum(x, -lambd), lambd)
        return case.reference(x, lambd)

    which: Any = 0 if case.straight_through else (0, 1)
    for take in (func.jacfwd, func.jacrev):
        got, want = take(case, which)(x, lambd), take(published, which)(x, lambd)
        torch.testing.assert_close(got, want)
    got, want = (func.hessian(total(f), which)(x, lambd) for f in (case, published))
    torch.testing.assert_close(got, want)
    _, push = func.linearize(lambda x: case(x, lambd), x)
    torch.testing.assert_close(push(x), func.jvp(lambda x: published(x, lambd), (x,), (x,))[1])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SF.softshrink, nn.functional.softshrink),
        (SF.hardshrink, nn.functional.hardshrink),
        (lambda x, beta: SF.softplus(x, beta), nn.functional.softplus),
    ],
    ids=["softshrink", "hardshrink", "softplus"],
)
def test_derivatives_of_torch_itself(ours, theirs):
    x = torch.cat([X.flatten(), KINKS])  # torch's band is closed too
    for take in (func.jacfwd, func.jacrev, lambda f: func.hessian(total(f))):
        got, want = take(lambda x: ours(x, 0.4)), take(lambda x: theirs(x, 0.4))
        torch.testing.assert_close(got(x), want(x))
    _, tangent = func.jvp(lambda x: ours(x, 0.4), (x,), (x.cos(),))
    torch.testing.assert_close(tangent, func.jvp(lambda x: theirs(x, 0.4), (x,), (x.cos(),))[1])


@thresholds
@levels
def test_second_derivatives_agree_in_every_order(case, lambd):
    x, lambd = X[:2].double(), lambd.double()
    loss = total(case)
    forward_over_reverse = func.hessian(loss, (0, 1))(x, lambd)
    reverse_over_reverse = func.jacrev(func.jacrev(loss, (0, 1)), (0, 1))(x, lambd)
    reverse_over_forward = func.jacrev(func.jacfwd(loss, (0, 1)), (0, 1))(x, lambd)
    torch.testing.assert_close(forward_over_reverse, reverse_over_reverse)
    torch.testing.assert_close(reverse_over_forward, reverse_over_reverse)


@functions
def test_dual_tensors(case):
    function = case.function if isinstance(case, PlainCase) else case
    x = X.clone().requires_grad_()
    with fuse_from(0), forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        output, tangent = forward_ad.unpack_dual(function(dual))
        (grad,) = torch.autograd.grad(output.sum(), x)
    assert output.equal(function(X))
    torch.testing.assert_close(tangent.sum(), grad.sum(), rtol=1e-4, atol=1e-4)


@thresholds
def test_gradients_and_hessians_of_each_sample(case):
    x, lambd = X.double(), torch.rand(5, 8).double()
    loss = total(case)
    for take in (func.grad, func.hessian):
        mapped = func.vmap(take(loss, (0, 1)))(x, lambd)
        each = [take(loss, (0, 1))(*pair) for pair in zip(x, lambd, strict=True)]
        flat = torch.utils._pytree.tree_leaves
        for i, got in enumerate(flat(mapped)):
            torch.testing.assert_close(got, torch.stack([flat(result)[i] for result in each]))
    pushed = func.vmap(lambda x, t: func.jvp(case, (x, t), (x, t))[1])(x, lambd)
    alone = [func.jvp(case, pair, pair)[1] for pair in zip(x, lambd, strict=True)]
    torch.testing.assert_close(pushed, torch.stack(alone))


@pytest.mark.parametrize("case", MODULES, ids=by_name)
def test_modules(case):
    module = case.build().double().eval()
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    x = X.double()

    def run(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return func.functional_call(module, parameters, (x,))

    assert_tangent_is_transposed_gradient(run, x, parameters)
    hessian = func.hessian(total(run), (0, 1))(x, parameters)
    twice = func.jacrev(func.jacrev(total(run), (0, 1)), (0, 1))(x, parameters)
    torch.testing.assert_close(hessian, twice)
    if "dim=0" in repr(module):
        return  # a sample alone has other groups
    samples = x[:, None]
    mapped = func.vmap(func.grad(total(run), (0, 1)), (0, None))(samples, parameters)
    each = [func.grad(total(run), (0, 1))(sample, parameters) for sample in samples]
    torch.testing.assert_close(mapped[0], torch.stack([grad for grad, _ in each]))
    for name in parameters:
        torch.testing.assert_close(mapped[1][name], torch.stack([grads[name] for _, grads in each]))


@functions
def test_forward_mode_and_a_compiled_graph_of_any_shape(case):
    """One function serves both, in either order."""
    torch._dynamo.reset()
    function = case.function if isinstance(case, PlainCase) else case
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    level = torch.tensor(0.4, requires_grad=True)
    levels = [] if isinstance(case, PlainCase) else [level]
    for rows in (2, 3):
        inputs = [X[:rows].clone().requires_grad_(), *levels]
        assert_tangent_is_transposed_gradient(function, *[each.detach() for each in inputs])
        got = torch.autograd.grad(compiled(*inputs).sum(), inputs)
        want = torch.autograd.grad(function(*inputs).sum(), inputs)
        torch.testing.assert_close(got, want)


@functions
def test_a_compiled_gradient(case):
    """Inside a compiled transform, torch differentiates the forward and ignores the backward."""
    torch._dynamo.reset()
    plain = isinstance(case, PlainCase)
    function = case.function if plain else case
    which, rest = (0, ()) if plain else ((0, 1), (torch.linspace(0.1, 0.8, 8).double(),))
    x = torch.cat([X.double(), KINKS[:8].double()[None], KINKS[-8:].double()[None]])
    take = func.grad(total(function), which)
    got = torch.compile(take, fullgraph=True, backend="aot_eager")(x, *rest)
    torch.testing.assert_close(got, take(x, *rest))


@pytest.mark.parametrize("sides", ["both", "positive"])
def test_a_compiled_gradient_of_the_number_kept(sides):
    torch._dynamo.reset()

    def kept(x: Tensor, level: Tensor) -> Tensor:
        return sa.L0(0.1, sides=sides, bandwidth=0.3).at_level(x, level).square()

    take = func.grad(kept, (0, 1))
    inputs = X.double(), torch.linspace(0.1, 0.8, 8).double()
    got = torch.compile(take, fullgraph=True, backend="aot_eager")(*inputs)
    want = take(*inputs)
    assert all((each != 0).any() for each in want)
    torch.testing.assert_close(got, want)


def test_what_has_no_compiled_gradient_says_so():
    layer = sa.nn.ActivityPenalty(sa.L1(0.1))
    for function in (lambda x: layer(x).sum(), lambda x: SF.entmax(x, 1.3).square().sum()):
        torch._dynamo.reset()
        take = torch.compile(func.grad(function), fullgraph=True, backend="aot_eager")
        with pytest.raises(Exception, match=in_compiled_code("compile inside the transform")):
            take(X)


@thresholds
@pytest.mark.parametrize("mode", ["compiled", "vmapped", "exported"])
@pytest.mark.parametrize("keyword", [{}, {"bounds": True}], ids=["threshold", "bounds"])
def test_levels_out_of_range_act_the_same_everywhere(case, mode, keyword):
    if keyword and case.function not in (SF.firmshrink, SF.clip):
        pytest.skip("one level")
    x = torch.cat([X.flatten(), KINKS])[:50].reshape(5, 10)
    lambd = torch.tensor([-0.4, 0.4, -0.0, math.nan, math.inf, -math.inf, -0.1, 1.0, -1.5, 3.0])

    def function(x: Tensor, lambd: Tensor) -> Tensor:
        if not keyword:
            return case(x, lambd)
        if case.function is SF.firmshrink:
            return SF.firmshrink(x, lambd, lambd.flip(0) - 0.3)
        return SF.clip(x, lo=lambd, hi=lambd.flip(0) - 0.3)

    eager = function(x, lambd)
    if mode == "compiled":
        torch._dynamo.reset()
        result = torch.compile(function, fullgraph=True, backend="aot_eager")(x, lambd)
    elif mode == "vmapped":
        result = func.vmap(function, (0, None))(x, lambd)
    else:

        class Model(nn.Module):
            def forward(self, x: Tensor, lambd: Tensor) -> Tensor:
                return function(x, lambd)

        result = torch.export.export(Model(), (x, lambd)).module()(x, lambd)
    torch.testing.assert_close(result, eager, equal_nan=True)


@thresholds
@fused
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_tensor_is_used_as_its_magnitude(case, smallest, dtype):
    x = X.to(dtype)
    with fuse_from(smallest):
        for level in (torch.tensor(0.4), torch.linspace(0.0, 0.8, 8)):
            leaf, negative = level.clone().requires_grad_(), (-level).requires_grad_()
            output, mirrored = case(x, leaf), case(x, negative)
            assert mirrored.equal(output)
            (want,) = torch.autograd.grad(output.float().sum(), leaf)
            (got,) = torch.autograd.grad(mirrored.float().sum(), negative)
            assert got[level > 0].equal(-want[level > 0])


@thresholds
@fused
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_level_of_nan_gives_nan_and_of_infinity_its_limit(case, smallest, dtype):
    x = torch.cat([X.flatten(), KINKS]).to(dtype)
    with fuse_from(smallest):
        assert case(x, torch.tensor(math.nan)).isnan().all()
        assert case(x[:50].reshape(5, 10), torch.full((10,), math.nan)).isnan().all()
        limit = case(x, torch.tensor(math.inf))
    assert limit.equal(x if case.name == "clip" else torch.zeros_like(x))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_levels_out_of_range_of_groups_and_softplus(shape):
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1))
    level = torch.full(shape, 0.8)[..., None] if shape else torch.tensor(0.8)
    for function in (SF.group_softshrink, lambda x, t: SF.sparse_group_softshrink(x, 0.1, t)):
        assert function(x, -level).equal(function(x, level))
        assert function(x, level * math.nan).isnan().all()
        assert (function(x, level * math.inf) == 0).all()
    assert SF.softplus(x, -level).equal(SF.softplus(x, level))
    assert SF.softplus(x, level * math.nan).isnan().all()


def test_crossed_bounds():
    """As torch.clamp: the upper bound counts. Its gradient goes there too."""
    x = torch.linspace(-2, 2, 9)
    lo, hi = torch.tensor(1.0, requires_grad=True), torch.tensor(-0.3, requires_grad=True)
    for low, high in [(lo, hi), (1.0, hi), (lo, -0.3)]:
        result = SF.clip(x, lo=low, hi=high)
        assert result.equal(torch.clamp(x, torch.as_tensor(low), torch.as_tensor(high)))
        wanted = [level for level in (low, high) if isinstance(level, Tensor)]
        grads = torch.autograd.grad(result.sum(), wanted, allow_unused=True)
        for level, grad in zip(wanted, grads, strict=True):
            assert grad == (9.0 if level is hi else 0.0)
    with pytest.raises(ValueError, match="lo <= hi"):
        SF.clip(x, lo=1.0, hi=-0.3)
    pact = sa.nn.Clip(0.2, learnable=True, lo=0.5)  # λ has sunk below lo
    assert pact(x).equal(torch.full((9,), 0.2))


@pytest.mark.parametrize("length", [1, 7, 16, 33, 100])
@pytest.mark.parametrize("function", [SF.softshrink, SF.hardshrink, SF.scad, SF.garrote])
def test_the_gradient_at_nan_does_not_depend_on_the_length(function, length) -> None:
    grads = []
    for size in (1, length):
        x = torch.full((size,), math.nan, requires_grad=True)
        (grad,) = torch.autograd.grad(function(x, 0.5).sum(), x)
        grads.append(grad)
    torch.testing.assert_close(grads[1], grads[0].expand(length), equal_nan=True)
