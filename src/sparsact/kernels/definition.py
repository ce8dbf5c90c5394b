"""Defining an operation once: its schema, the plain-torch reference, the CPU and the GPU kernel.

The reference is the specification. It runs on every other device, and where there is no kernel for
the machine or the dtype. `backends` says which version runs on the CPU.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.cpu import library
from sparsact.kernels.triton import support

_KERNELS: dict[str, tuple[torch.dtype, ...]] = {}
GPU_FILES: dict[str, str] = {}
"""The file in ``sparsact/kernels/triton`` of each operation that has a kernel there."""


def define(
    name: str,
    schema: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    cpu: str | None = None,
    gpu: str | None = None,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16),
) -> None:
    """Define ``torch.ops.sparsact.NAME``.

    Args:
        name: the name of the operation.
        schema: the schema for ``torch.library.define``, without the name.
        reference: the operation in plain torch.
        fake: makes outputs of the right shapes and dtypes, without computing their values.
        cpu: the compiled version is the function NAME in ``sparsact/kernels/cpu/CPU.py``. The first
            call imports that file. None if there is none.
        gpu: the same for Triton and ``sparsact/kernels/triton/GPU.py``.
        dtypes: dtypes of the first tensor that the compiled version supports. Triton's supports all
            floating dtypes.
    """

    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        if next(tensors_in(args)).dtype in dtypes and library.is_built():
            return kernel(str(cpu), name)(*args, **kwargs)
        return reference(*args, **kwargs)

    def on_gpu(*args: Any, **kwargs: Any) -> Any:
        if not all(support.is_usable(x.device, x.dtype) for x in tensors_in(args) if x.is_cuda):
            return reference(*args, **kwargs)
        with torch.cuda.device(next(tensors_in(args)).device):  # Triton uses the current one
            return kernel(str(gpu), name, room="triton")(*args, **kwargs)

    qualified = f"sparsact::{name}"
    torch.library.define(qualified, schema)
    torch.library.impl(qualified, "default")(reference)
    torch.library.register_fake(qualified)(fake)
    if cpu is not None:
        torch.library.impl(qualified, "cpu")(on_cpu)
        _KERNELS[name] = dtypes
    if gpu is not None:
        GPU_FILES[name] = gpu
        torch.library.impl(qualified, "cuda")(on_gpu)


def tensors_in(arguments: Iterable[Any]) -> Iterator[Tensor]:
    """The operands, also those in lists."""
    for value in arguments:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list):
            yield from tensors_in(value)


def backends() -> dict[str, str]:
    """What runs each operation on the CPU.

    Returns:
        operation → ``"avx2 (float32, bfloat16)"`` with the instruction set and the dtypes of the
        compiled kernel (other dtypes use the reference), or ``"reference"`` where there is none.
    """
    if library.PATH is None:
        return dict.fromkeys(_KERNELS, "reference")
    instructions = library.PATH.stem.removeprefix("kernels_")
    return {
        name: f"{instructions} ({', '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)})"
        for name, dtypes in _KERNELS.items()
    }


@functools.cache
def kernel(file: str, name: str, room: str = "cpu") -> Callable[..., Any]:
    """Import the function `name` from ``sparsact/kernels/ROOM/FILE.py``."""
    module = importlib.import_module(f"sparsact.kernels.{room}.{file}")
    function: Callable[..., Any] = getattr(module, name)
    return function
