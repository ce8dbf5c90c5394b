"""Defining an operation once: its schema, the plain-torch reference and the CPU kernel.

The reference is the specification. It runs on every device but the CPU, and on the CPU where there
is no compiled kernel for the machine or the dtype. `backends` says which version runs.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.cpu import library

_KERNELS: dict[str, tuple[torch.dtype, ...]] = {}


def define(
    name: str,
    schema: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    cpu: str,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16),
) -> None:
    """Define ``torch.ops.sparsact.NAME``.

    Args:
        name: the name of the operation.
        schema: the schema for ``torch.library.define``, without the name.
        reference: the operation in plain torch.
        fake: makes outputs of the right shapes and dtypes, without computing their values.
        cpu: the compiled version is the function NAME in ``sparsact/kernels/cpu/CPU.py``. The first
            call imports that file.
        dtypes: dtypes of the first tensor that the compiled version supports.
    """

    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        first = next(value for value in args if isinstance(value, Tensor))
        if first.dtype in dtypes and library.is_built():
            return kernel(cpu, name)(*args, **kwargs)
        return reference(*args, **kwargs)

    qualified = f"sparsact::{name}"
    torch.library.define(qualified, schema)
    torch.library.impl(qualified, "default")(reference)
    torch.library.impl(qualified, "cpu")(on_cpu)
    torch.library.register_fake(qualified)(fake)
    _KERNELS[name] = dtypes


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
def kernel(cpu: str, name: str) -> Callable[..., Any]:
    """Import the function `name` from ``sparsact/kernels/cpu/CPU.py``."""
    module = importlib.import_module(f"sparsact.kernels.cpu.{cpu}")
    function: Callable[..., Any] = getattr(module, name)
    return function
