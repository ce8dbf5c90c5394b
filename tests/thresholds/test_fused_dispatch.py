"""The compiled CPU operations of the thresholds against the plain versions they replace."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import sparsact.functional as SF
from sparsact.thresholds.fused_dispatch import SMALLEST_FUSED, fuse_from

FUNCTIONS = {
    "softshrink": SF.softshrink,
    "hardshrink": SF.hardshrink,
    "hardshrink-triangle": lambda x, t: SF.hardshrink(x, t, bandwidth=0.4, kernel="triangle"),
    "hardshrink-sigmoid": lambda x, t: SF.hardshrink(x, t, bandwidth=0.4, kernel="sigmoid"),
    "clip": SF.clip,
    "clip-box": lambda x, t: SF.clip(x, lo=-0.3, hi=t),
}
DTYPES = [torch.float32, torch.bfloat16]
functions = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

LAYOUTS = [
    lambda x: x,
    lambda x: x.mT.contiguous().mT,
    lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),  # channels last
    lambda x: torch.stack([x, x], -1)[..., 0],  # gaps between the entries
    lambda x: x[:1].expand(x.shape),
]

pytestmark = pytest.mark.versions


class Calls(TorchDispatchMode):
    """Records which operations of this library run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "sparsact":
            self.names.append(function.__name__.removesuffix(".default"))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def results(function, x, lambd, grad, smallest):
    """Output and gradients; the compiled operation runs from `smallest` entries on."""
    x, lambd = x.detach().requires_grad_(), lambd.detach().requires_grad_()
    with fuse_from(smallest):
        output = function(x, lambd)
        output.backward(grad)
    return output.detach(), x.grad, lambd.grad


def strides(x):
    """The strides that matter: those of a dim of size 1, or of an empty tensor, are arbitrary."""
    sizes = zip(x.shape, x.stride(), strict=True)
    return [stride for size, stride in sizes if size > 1] if x.numel() else []


def check(function, x, lambd, grad):
    """Assert that both paths agree."""
    got = results(function, x, lambd, grad, smallest=0)
    want = results(function, x, lambd, grad, smallest=math.inf)
    assert strides(got[0]) == strides(want[0])
    assert_agree(got, want, grad)


def assert_agree(got, want, grad):
    """Equal output and gradient of x; equal gradient of λ up to the order of its float32 sum."""
    torch.testing.assert_close(got[:2], want[:2], rtol=0, atol=0, equal_nan=True)
    unit = torch.finfo(torch.float32).eps
    scale = float(grad.float().nan_to_num(0, 0, 0).abs().sum())
    rounding = torch.finfo(want[2].dtype).eps if want[2].dtype == torch.bfloat16 else unit
    torch.testing.assert_close(
        got[2],
        want[2],
        rtol=4 * rounding,
        atol=4 * unit * scale,
        equal_nan=True,
    )


@functions
@dtypes
@settings(max_examples=40)
@given(data=st.data())
def test_equals_the_plain_version(function, dtype, data):
    shape = data.draw(st.lists(st.integers(0, 9), min_size=2, max_size=4), label="shape")
    along = data.draw(st.none() | st.integers(0, len(shape) - 1), label="λ along")
    sizes = [size if dim == along else 1 for dim, size in enumerate(shape)]
    layout = data.draw(st.sampled_from(LAYOUTS), label="layout")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), label="seed"))
    x = layout(torch.randn(shape, generator=generator).to(dtype))
    grad = data.draw(st.sampled_from(LAYOUTS), label="layout of the gradient")(
        torch.randn(shape, generator=generator).to(dtype)
    )
    lambd = torch.rand(sizes, generator=generator)
    check(function, x, lambd, grad)


@functions
@dtypes
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((200, 37), (37,)),  # several strips of rows
        ((70, 2500), (2500,)),  # several blocks of columns
        ((9000,), ()),
        ((9000,), (1,)),
        ((3, 5, 50, 50), (5, 1, 1)),  # several blocks of a channel
        ((3, 5, 50, 50), (1, 5, 1, 1)),
        ((40, 130), (40, 1)),
    ],
)
def test_beyond_one_unit_of_work(function, dtype, shape, sizes):
    x, grad = torch.randn(2, *shape).to(dtype)
    check(function, x, torch.rand(sizes), grad)


@functions
@dtypes
@pytest.mark.parametrize("lambda_dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_special_values(function, dtype, lambda_dtype):
    inf, info = math.inf, torch.finfo(dtype)
    values = [0.0, -0.0, 0.1, -0.1, math.nan, inf, -inf, info.tiny, -info.tiny, info.max, 1.0]
    x = torch.tensor(values, dtype=dtype).repeat(7, 1)
    grad = torch.tensor([1.0, -2.0, 0.0, -0.0, math.nan, inf, -inf], dtype=dtype)
    lambd = torch.tensor([0.1] * 10 + [0.0], dtype=lambda_dtype)
    check(function, x, lambd, grad[:, None].expand(x.shape))


@pytest.mark.parametrize("function", [SF.softshrink, SF.hardshrink, SF.clip])
def test_the_same_bits_on_two_threads(function, set_threads):
    x, grad = torch.randn(2, 700, 130)
    for lambd in (torch.rand(130), torch.rand(700, 1), torch.rand(())):
        set_threads(1)
        one = results(function, x, lambd, grad, smallest=0)
        set_threads(2)
        two = results(function, x, lambd, grad, smallest=0)
        assert all(a.equal(b) for a, b in zip(one, two, strict=True))


@functions
def test_runs_on_large_inputs(function):
    x, grad = torch.randn(2, SMALLEST_FUSED // 64, 64)
    name = next(name for name, value in FUNCTIONS.items() if value is function).split("-")[0]
    with Calls() as calls:
        results(function, x, torch.rand(64), grad, smallest=SMALLEST_FUSED)
    assert calls.names == [name, f"{name}_backward"]


@functions
@pytest.mark.parametrize(
    ("x", "lambd"),
    [
        (torch.ones(8, 64), torch.ones(64)),
        (torch.ones(SMALLEST_FUSED, dtype=torch.float64), torch.ones(())),
        (torch.ones(SMALLEST_FUSED, dtype=torch.float16), torch.ones(())),
        (torch.ones(SMALLEST_FUSED // 64, 64), torch.ones(SMALLEST_FUSED // 64, 64)),
    ],
    ids=["small", "float64", "float16", "λ for each entry"],
)
def test_the_plain_version_runs_otherwise(function, x, lambd):
    with Calls() as calls:
        results(function, x, lambd, torch.ones_like(x), smallest=SMALLEST_FUSED)
    assert not calls.names


@functions
def test_second_derivatives(function):
    x = torch.randn(SMALLEST_FUSED, requires_grad=True)
    lambd = torch.tensor(0.3, requires_grad=True)
    output = function(x, lambd)
    grads = torch.autograd.grad(output.square().sum(), [x, lambd], create_graph=True)
    (second,) = torch.autograd.grad(grads[0].sum(), x)
    torch.testing.assert_close(second, 2.0 * torch.autograd.grad(function(x, lambd).sum(), x)[0])


@functions
def test_changing_the_output_in_place(function):
    x = torch.randn(SMALLEST_FUSED, requires_grad=True)
    output = function(x, torch.tensor(0.3, requires_grad=True)).mul_(2)
    if function is SF.softshrink:  # it keeps the output for backward
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()
    else:
        output.sum().backward()


@pytest.mark.parametrize("function", [SF.softshrink, SF.hardshrink, SF.clip])
def test_in_a_compiled_graph(function):
    torch._dynamo.reset()
    x, grad = torch.randn(2, SMALLEST_FUSED // 64, 64)
    lambd = torch.rand(64)
    compiled = torch.compile(function, fullgraph=True)
    got = results(compiled, x, lambd, grad, smallest=SMALLEST_FUSED)
    want = results(function, x, lambd, grad, smallest=math.inf)
    assert_agree(got, want, grad)


@dtypes
@pytest.mark.parametrize(
    ("name", "tensors", "options"),
    [
        ("softshrink", 1, ()),
        ("softshrink_backward", 2, ()),
        ("hardshrink", 1, ()),
        ("hardshrink_backward", 2, (0.1, "triangle")),
    ],
)
def test_opcheck(dtype, name, tensors, options):
    inputs = [torch.randn(5, 4).to(dtype) for _ in range(tensors)]
    operation = getattr(torch.ops.sparsact, name)
    torch.library.opcheck(operation, (*inputs, torch.rand(4), *options))


@dtypes
def test_opcheck_of_clip(dtype):
    x, bounds = torch.randn(5, 4).to(dtype), (torch.tensor(-0.2), torch.rand(4))
    torch.library.opcheck(torch.ops.sparsact.clip, (x, *bounds))
    torch.library.opcheck(torch.ops.sparsact.clip_backward, (x, x, *bounds))


def test_levels_that_vary_along_two_dims():
    with pytest.raises(ValueError, match=r"vary along one dim only, got the shape \(3, 4\)"):
        torch.ops.sparsact.softshrink(torch.ones(3, 4), torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"vary along one dim only, got the shape \(3, 4\)"):
        torch.ops.sparsact.clip(torch.ones(3, 4), -torch.ones(3, 1), torch.ones(4))
