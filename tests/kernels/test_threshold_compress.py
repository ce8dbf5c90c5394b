import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsact.kernels import threshold_compress
from sparsact.kernels.reference import selection_reference as reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def parts(csr):
    return csr.values(), csr.crow_indices(), csr.col_indices()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(rows=st.integers(0, 9), columns=st.integers(0, 40), seed=st.integers(0, 99))
def test_equals_the_reference(dtype, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator).to(dtype)
    level = torch.rand(columns, generator=generator)
    expected = reference.threshold_compress(x, level)
    for actual, reference_part in zip(parts(threshold_compress(x, level)), expected, strict=True):
        assert torch.equal(actual, reference_part)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kept_entries(dtype):
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([[0.0, -0.5, 0.5, nan], [inf, -inf, -0.75, 0.25]], dtype=dtype)
    values, offsets, columns = parts(threshold_compress(x, 0.5))
    assert offsets.tolist() == [0, 1, 4]  # the band is closed, NaN is active
    assert columns.tolist() == [3, 0, 1, 2]
    assert torch.equal(values.nan_to_num(9.0, 1.0, -1.0).float(), torch.tensor([9, 1, -1, -0.75]))


def test_the_default_keeps_all_nonzero_entries():
    x = torch.relu(torch.randn(5, 7))
    assert torch.equal(threshold_compress(x).to_dense(), x)


def test_threshold_is_not_rounded_to_bfloat16():
    x = torch.tensor([[1.0]], dtype=torch.bfloat16)
    assert len(threshold_compress(x, 0.999).values()) == 1
    assert len(threshold_compress(x, 1.001).values()) == 0


@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::2, 1::2], lambda x: x.flip(1)])
def test_strided_inputs(view):
    x = view(torch.randn(8, 8))
    assert torch.equal(threshold_compress(x, 0.3).to_dense(), torch.where(x.abs() > 0.3, x, 0))


def test_gradient_reaches_the_kept_entries():
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    threshold_compress(x, 0.3).values().pow(2).sum().backward()
    assert torch.equal(x.grad, torch.where(x.abs() > 0.3, 2 * x, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.versions
def test_opcheck(dtype):
    x = torch.randn(5, 4).to(dtype).requires_grad_()
    level = torch.full((4,), 0.3, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    torch.library.opcheck(torch.ops.sparsact.threshold_compress, (x, level))


@pytest.mark.parametrize(
    ("x", "threshold", "error", "message"),
    [
        (torch.ones(3), 0.1, ValueError, "2 dims"),
        (torch.eye(3).to_sparse_csr(), 0.1, ValueError, "x must be a dense tensor"),
        (torch.ones(3, 4).int(), 0.1, TypeError, "floating-point"),
        (torch.ones(3, 4), -0.1, ValueError, "at least 0"),
        (torch.ones(3, 4), float("nan"), ValueError, "at least 0"),
        (torch.ones(3, 4), torch.ones(3), ValueError, r"\(4,\)"),
        (torch.ones(3, 4), torch.ones(4).int(), TypeError, "floating point"),
        (torch.ones(3, 4), torch.ones(4, device="meta"), ValueError, "meta"),
    ],
)
def test_wrong_arguments(x, threshold, error, message):
    with pytest.raises(error, match=message):
        threshold_compress(x, threshold)


def test_only_the_beta_warning_of_torch_is_silenced():
    code = """
import warnings, torch
from sparsact.kernels import threshold_compress
before = list(warnings.filters)
print(threshold_compress(torch.eye(3)).values().tolist())
assert warnings.filters == before
warnings.warn("heard")
"""
    command = [sys.executable, "-W", "always", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == "[1.0, 1.0, 1.0]\n", run.stderr
    assert "beta" not in run.stderr
    assert "heard" in run.stderr
