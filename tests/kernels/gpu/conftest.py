"""Triton's kernels on a GPU, or on CPU tensors under ``TRITON_INTERPRET=1``."""

import importlib.util
import os

import pytest
import torch

from sparsact.kernels import definition

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"

collect_ignore_glob = [] if HAS_TRITON and (INTERPRETS or torch.cuda.is_available()) else ["*.py"]

ROOMS = {
    **dict.fromkeys(("csr_linear", "sddmm", "csr_weight_grad"), "csr"),
    **dict.fromkeys(("clip", "softshrink", "hardshrink"), "shrink"),
    "clip_backward": "shrink",
    "softshrink_backward": "shrink",
    "hardshrink_backward": "shrink",
    "gather_linear": "gather",
    "linear_topk": "linear_topk",
}
"""The file in ``sparsact/kernels/triton`` of each operation."""


@pytest.fixture(scope="session")
def device():
    return torch.device("cpu" if INTERPRETS else "cuda")


@pytest.fixture
def triton_on_the_cpu(monkeypatch):
    """The operations on CPU tensors run Triton's kernels instead of the compiled ones."""
    if not INTERPRETS:
        pytest.skip("the kernels of a GPU read no CPU tensors")
    compiled = definition.kernel

    def kernel(file, name, room="cpu"):
        return compiled(ROOMS[name], name, "triton") if name in ROOMS else compiled(file, name)

    monkeypatch.setattr(definition, "kernel", kernel)
