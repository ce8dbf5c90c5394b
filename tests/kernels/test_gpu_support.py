"""Why Triton's kernels cannot run on a machine; needs neither Triton nor a GPU."""

import re
import warnings

import pytest
import torch

from sparsact.kernels import definition
from sparsact.kernels.triton import support

H100, V100, P100 = (9, 0), (7, 5), (6, 0)


@pytest.mark.parametrize(
    ("version", "capability", "dtype", "message"),
    [
        ((3, 4), H100, torch.bfloat16, None),
        ((3, 4), V100, torch.float16, None),
        ((3, 4), V100, torch.bfloat16, r"Card \(compute capability 7.5\) has no bfloat16"),
        ((3, 4), P100, torch.float32, r"Card \(compute capability 6.0\) is older"),
        ((3, 3), H100, torch.float32, "Triton 3.3 is too old: install triton>=3.4"),
        ((), H100, torch.float32, "Triton is not installed"),
    ],
)
def test_the_reason(version, capability, dtype, message):
    reason = support.reason(version, capability, "Card", dtype)
    assert reason is None if message is None else re.search(message, reason)


def test_the_kernels_are_off_until_they_are_turned_on(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(support, "_reason", lambda device, dtype: None)
    monkeypatch.delenv(support.SWITCH, raising=False)
    assert not support.is_usable(gpu, torch.float32)
    monkeypatch.setenv(support.SWITCH, "1")
    assert support.is_usable(gpu, torch.float32)


def test_it_is_said_once():
    support._warn.cache_clear()
    with pytest.warns(support.NoGPUKernelsWarning, match="old. Plain torch replaces"):
        support._warn("Card is old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        support._warn("Card is old")


def test_every_kernel_has_its_function():
    """A file in ``triton/`` defines each operation that names it."""
    for name, file in definition.GPU_FILES.items():
        source = definition.__file__.replace("definition.py", f"triton/{file}.py")
        with open(source, encoding="utf-8") as lines:
            assert f"def {name}(" in lines.read()
    assert {"softshrink", "jumprelu_backward", "csr_weight_grad"} <= set(definition.GPU_FILES)


@pytest.mark.versions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_opcheck_of_jumprelu(dtype):
    """It has no compiled version on a CPU, where the reference runs."""
    x, level, ops = torch.randn(5, 7).to(dtype), torch.rand(7), torch.ops.sparsact
    torch.library.opcheck(ops.jumprelu, (x, level))
    torch.library.opcheck(ops.jumprelu_backward, (x, x, level, 0.5, "triangle"))
