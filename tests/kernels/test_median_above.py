import numpy as np
import pytest
import torch

from sparsact.kernels.reference import wavelet_denoising_reference as reference


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("size", [1, 2, 7, 64, 1001])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_numpy_and_the_reference(dtype, size, scale):
    x = scale * torch.randn(5, size, dtype=dtype)
    x[1] = x[1].abs().round()  # ties
    x[2, ::2] = 0.0
    floor = scale * torch.tensor([0.0, 0.0, 0.0, 0.5, 9.0], dtype=dtype)
    actual = torch.ops.sparsact.median_above(x, floor)
    for row, least, median in zip(x.abs().numpy(), floor.numpy(), actual, strict=True):
        above = row[row > least]
        expected = np.median(above) if len(above) else np.nan
        assert median.item() == pytest.approx(expected, rel=8 * torch.finfo(dtype).eps, nan_ok=True)
    torch.testing.assert_close(actual, reference.median_above(x, floor), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_special_values(dtype):
    nan, inf = float("nan"), float("inf")
    rows = [[nan, -inf, 1.0, inf], [nan, nan, 2.0, -4.0], [inf, 1.0, 2.0, 3.0]]
    actual = torch.ops.sparsact.median_above(torch.tensor(rows, dtype=dtype), torch.zeros(3))
    assert actual.tolist() == [inf, 3.0, 2.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.versions
def test_opcheck(dtype):
    arguments = torch.randn(3, 8, dtype=dtype), torch.zeros(3, dtype=dtype)
    tests = ["test_schema", "test_faketensor"]  # there is no gradient
    torch.library.opcheck(torch.ops.sparsact.median_above, arguments, test_utils=tests)
