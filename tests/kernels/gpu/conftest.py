"""Triton's kernels on a GPU, or on CPU tensors under ``TRITON_INTERPRET=1``."""

import importlib.util
import os
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from sparsact.kernels import definition
from sparsact.kernels.triton import support

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"

collect_ignore_glob = [] if HAS_TRITON and (INTERPRETS or torch.cuda.is_available()) else ["*.py"]

if not collect_ignore_glob:
    os.environ[support.SWITCH] = "1"
    sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests of the CPU's kernels
    hypothesis.settings.register_profile("interpreted", deadline=None, max_examples=15)
    hypothesis.settings.load_profile("interpreted")


def round_to_nearest():
    """Let the interpreter round float32 to bfloat16 as a GPU does; it cuts the bits off."""
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def rounded(data, source, target, mode):
        if (source, target) != (tl.float32, tl.bfloat16):
            return convert(data, source, target, mode)
        wide = torch.from_numpy(data.view("float32").copy())
        return wide.bfloat16().view(torch.uint16).numpy()

    interpreter._convert_float = rounded


if not collect_ignore_glob and INTERPRETS:
    round_to_nearest()


@pytest.fixture(scope="session")
def device():
    return torch.device("cpu" if INTERPRETS else "cuda")


@pytest.fixture(autouse=True)
def _quiet_numpy():
    """The interpreter computes in NumPy, which warns of NaN; torch does not."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def triton_on_the_cpu(monkeypatch):
    """The operations on CPU tensors run Triton's kernels instead of the compiled ones."""
    if not INTERPRETS:
        pytest.skip("the kernels of a GPU read no CPU tensors")
    compiled = definition.kernel

    def kernel(file, name, room="cpu"):
        on_gpu = definition.GPU_FILES.get(name)
        return compiled(file, name) if on_gpu is None else compiled(on_gpu, name, "triton")

    monkeypatch.setattr(definition, "kernel", kernel)
