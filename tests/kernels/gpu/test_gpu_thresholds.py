"""Triton's thresholds against formulas in torch, at the kinks, for all layouts and dtypes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsact.functional as SF
from sparsact.kernels.triton import shrink
from sparsact.thresholds.fused_dispatch import fuse_from

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
WINDOWS = ["rectangle", "triangle", "sigmoid"]
BANDWIDTH = 0.5
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
LAYOUTS = [
    lambda x: x,
    lambda x: x.mT.contiguous().mT,
    lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    lambda x: torch.stack([x, x], -1)[..., 0],
    lambda x: x[:1].expand(x.shape),
]


def window(distance, kernel):
    if kernel == "rectangle":
        return (distance.abs() < BANDWIDTH / 2) / BANDWIDTH
    if kernel == "triangle":
        return (1 - distance.abs() / BANDWIDTH).clamp(min=0) / BANDWIDTH
    return (
        4
        / BANDWIDTH
        * torch.sigmoid(4 * distance / BANDWIDTH).mul(torch.sigmoid(-4 * distance / BANDWIDTH))
    )


def expected(name, x, level, grad, kernel):
    """Output, gradient of x and gradients of the levels, unsummed, in float64."""
    x, level, grad = x.double(), level.double().expand(x.shape), grad.double()
    sign = x.sign()
    if name == "softshrink":
        output = sign * (x.abs() - level).clamp(min=0)
        grad_x = torch.where(x.abs() > level, grad, 0.0)
        return output, grad_x, (-sign * grad_x,)
    if name == "hardshrink":
        slope = -sign * level * window(x.abs() - level, kernel)
        outside = x.abs() > level
        return torch.where(outside, x, 0.0), torch.where(outside, grad, 0.0), (slope * grad,)
    if name == "jumprelu":
        slope = -level * window(x - level, kernel)
        return torch.where(x > level, x, 0.0), torch.where(x > level, grad, 0.0), (slope * grad,)
    below, above = x <= -level, x >= level
    sums = torch.where(below, grad, 0.0), torch.where(above, grad, 0.0)
    return x.clamp(-level, level), torch.where(below | above, 0.0, grad), sums


def run(name, x, level, grad, kernel):
    """The same three by Triton's kernels, the last summed."""
    if name == "clip":
        return shrink.clip(x, -level, level), *_parted(shrink.clip_backward(grad, x, -level, level))
    output = getattr(shrink, name)(x, level)
    back = getattr(shrink, f"{name}_backward")
    if name == "softshrink":
        return output, *_parted(back(grad, output, level))
    return output, *_parted(back(grad, x, level, BANDWIDTH, kernel))


def _parted(results):
    return results[0], results[1:]


def summed(gradient, level):
    return gradient.sum_to_size(level.shape) if gradient.ndim else gradient


def check(name, x, level, grad, kernel="rectangle"):
    output, grad_x, grads = run(name, x, level, grad, kernel)
    want, want_x, want_grads = expected(name, x, level, grad, kernel)
    assert (output.dtype, output.shape) == (x.dtype, x.shape)
    torch.testing.assert_close(output, want.to(x.dtype))
    torch.testing.assert_close(grad_x, want_x.to(x.dtype))
    for actual, unsummed in zip(grads, want_grads, strict=True):
        torch.testing.assert_close(
            actual, summed(unsummed, level).to(level.dtype), rtol=1e-4, atol=1e-4
        )


def on_a_grid(shape, dtype, generator, device):
    """Multiples of 1/8, so that many entries equal a level of the same kind."""
    return (torch.randint(-12, 13, shape, generator=generator) / 8).to(device, dtype)


@pytest.mark.parametrize("name", ["softshrink", "hardshrink", "jumprelu", "clip"])
@dtypes
@given(
    shape=st.lists(st.integers(0, 7), min_size=2, max_size=4).map(tuple),
    dim=st.sampled_from([None, 0, 1, -1]),
    layout=st.sampled_from(LAYOUTS),
    kernel=st.sampled_from(WINDOWS),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_equal_the_formulas(name, dtype, device, shape, dim, layout, kernel, seed):
    generator = torch.Generator().manual_seed(seed)
    x = layout(on_a_grid(shape, dtype, generator, device))
    grad = on_a_grid(shape, dtype, generator, device)
    sizes = [1] * len(shape)
    if dim is not None:
        sizes[dim] = shape[dim]
    wide = torch.promote_types(dtype, torch.float32)
    check(name, x, on_a_grid(tuple(sizes), wide, generator, device).abs(), grad, kernel)


@pytest.mark.parametrize("name", ["softshrink", "hardshrink", "jumprelu", "clip"])
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((3000,), (1,)), ((3, 2, 2100), (2, 1)), ((300, 131), (131,)), ((2049, 1), (1,)), ((9,), ())],
    ids=str,
)
def test_more_than_one_tile(name, device, shape, sizes):
    generator = torch.Generator().manual_seed(0)
    x = on_a_grid(shape, torch.float32, generator, device)
    level = on_a_grid(sizes, torch.float32, generator, device).abs()
    check(name, x, level, on_a_grid(shape, torch.float32, generator, device))


@dtypes
def test_nan_and_infinity_pass(dtype, device):
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0], dtype=dtype, device=device)
    level = torch.tensor(0.5, device=device)
    for name, least, most in (
        ("softshrink", -math.inf, math.inf),
        ("hardshrink", -math.inf, math.inf),
        ("jumprelu", 0.0, math.inf),
        ("clip", -0.5, 0.5),
    ):
        levels = (-level, level) if name == "clip" else (level,)
        want = torch.tensor([math.nan, most, least, 0.0, 0.0], dtype=dtype, device=device)
        torch.testing.assert_close(getattr(shrink, name)(x, *levels), want, equal_nan=True)
        unknown = [value * math.nan for value in levels]
        assert getattr(shrink, name)(x, *unknown).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("function", [SF.softshrink, SF.hardshrink, SF.clip])
def test_public_functions_use_them(function, dtype, device, triton_on_the_cpu):
    """Entries that are NaN, and levels at the kinks, through autograd."""
    generator = torch.Generator().manual_seed(0)
    x = on_a_grid((5, 9), dtype, generator, device)
    x[0, 0] = math.nan
    level = on_a_grid((9,), torch.float32, generator, device).abs()
    results = []
    for smallest in (0, math.inf):
        leaf, learned = x.clone().requires_grad_(), level.clone().requires_grad_()
        with fuse_from(smallest):
            output = function(leaf, learned)
            output.backward(torch.ones_like(output))
        results.append((output.detach(), leaf.grad, learned.grad))
    torch.testing.assert_close(*results, equal_nan=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("function", [SF.softshrink, SF.hardshrink, SF.jumprelu, SF.clip])
def test_a_gpu_uses_them_without_waiting(function):
    x = torch.randn(512, 300, device="cuda", requires_grad=True)
    level = torch.full((300,), 0.5, device="cuda", requires_grad=True)
    grads = []
    for smallest in (0, math.inf):
        with fuse_from(smallest):
            function(x, level).sum().backward()  # compiles
            torch.cuda.set_sync_debug_mode("error")
            try:
                loss = function(x, level).sum()
                grads.append(torch.autograd.grad(loss, (x, level)))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)
