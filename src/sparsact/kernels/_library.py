"""Defining an operation once: its schema, the plain-torch reference and the CPU kernel.

The reference is the specification, and what every device but the CPU runs. On the CPU it runs
where Numba is not there or the kernel does not know the dtype; `backends` says which it is.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsact._common.tested_versions import warn_if_untested

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
        name: of the operation.
        schema: as ``torch.library.define`` takes it, without the name.
        reference: the same in plain torch.
        fake: the outputs' shapes and dtypes, without their values.
        cpu: the file in `sparsact.kernels._cpu` that holds the Numba version, a function of the
            same name; it is imported by the first call.
        dtypes: those of the first tensor that the Numba version knows.
    """

    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        first = next(value for value in args if isinstance(value, Tensor))
        if first.dtype in dtypes and numba_is_installed():
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
        for each operation ``"numba (float32, bfloat16)"``, with the dtypes that the compiled
        kernel knows (other dtypes take the reference), or ``"reference"`` for all dtypes where
        Numba is not installed.
    """
    if not numba_is_installed():
        return dict.fromkeys(_KERNELS, "reference")
    return {
        name: f"numba ({', '.join(str(dtype).removeprefix('torch.') for dtype in dtypes)})"
        for name, dtypes in _KERNELS.items()
    }


@functools.cache
def numba_is_installed() -> bool:
    """Whether compiled kernels can be had at all; a Numba that is there and broken raises."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def kernel(file: str, name: str) -> Callable[..., Any]:
    """A function of a file in `sparsact.kernels._cpu`, which this imports."""
    warn_if_untested("numba")
    module = importlib.import_module(f"sparsact.kernels._cpu.{file}")
    found: Callable[..., Any] = getattr(module, name)
    return found
