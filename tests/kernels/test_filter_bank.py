"""The compiled filters against their reference, which the tests of the transform cover."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsact.kernels.reference import wavelet_denoising_reference as reference

SHAPES = [(2, 64, 1), (3, 37, 1), (1, 37, 5), (2, 8, 3), (2, 3, 1), (1, 1, 4), (0, 5, 1)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def draw(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@DTYPES
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 1), (1, 4)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(length=st.sampled_from([2, 4, 6]), left=st.integers(0, 40), seed=st.integers(0, 9))
@settings(max_examples=10)
def test_mirrored(dtype, shape, stride, dilation, length, left, seed):
    low, high = draw(seed, 2, length).tolist()
    coefficients = (shape[1] + left) // stride + 1
    x = draw(seed, *shape, dtype=dtype)
    arguments = (x, low, high, stride, dilation, left, coefficients)
    actual = torch.ops.sparsact.filter_mirrored(*arguments)
    torch.testing.assert_close(actual, reference.filter_mirrored(*arguments))


@DTYPES
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 1), (1, 4)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(
    length=st.sampled_from([2, 4, 6]),
    start=st.integers(0, 10),
    samples=st.integers(1, 130),
    seed=st.integers(0, 9),
)
@settings(max_examples=10)
def test_transposed(dtype, shape, stride, dilation, length, start, samples, seed):
    taps, bands = draw(seed, 2, length).tolist(), draw(seed, 2, *shape, dtype=dtype)
    arguments = (*bands, *taps, stride, dilation, start * stride, samples)
    actual = torch.ops.sparsact.filter_transposed(*arguments)
    torch.testing.assert_close(actual, reference.filter_transposed(*arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.versions
def test_opcheck(dtype):
    x, taps = torch.randn(2, 8, 3, dtype=dtype), [0.5, 0.25]
    tests = ["test_schema", "test_faketensor"]  # there is no gradient
    torch.library.opcheck(
        torch.ops.sparsact.filter_mirrored, (x, taps, taps, 2, 1, 0, 4), test_utils=tests
    )
    torch.library.opcheck(
        torch.ops.sparsact.filter_transposed, (x, x, taps, taps, 2, 1, 0, 16), test_utils=tests
    )
