"""The compiled kernels of ``csrc/``: the library is found, loaded, and its functions are declared.

One library uses AVX2, the other does not. torch says what the CPU supports; the variable
ATEN_CPU_CAPABILITY=default, which torch reads, turns AVX2 off. Kernels take addresses and numbers,
so the same files work with every version of Python and torch.
"""

import ctypes
import functools
import warnings
from collections.abc import Callable
from ctypes import c_double, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch

ADDRESS, INTEGER, REAL = c_void_p, c_int64, c_double

FLOATS = {torch.float32: 0, torch.bfloat16: 1}
"""The codes of dtypes in C++."""
REALS = {torch.float32: 0, torch.float64: 3}
WEIGHTS = {**FLOATS, torch.int8: 2, torch.uint8: 4}


class MissingKernelsWarning(UserWarning):
    """sparsact was installed without its compiled kernels."""


def _find() -> Path | None:
    has_avx2 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    names = ("avx2", "default") if has_avx2 else ("default",)
    files = [Path(__file__).with_name(f"kernels_{name}.so") for name in names]
    return next((file for file in files if file.is_file()), None)


PATH = _find()
"""The library for this CPU, or None if none was built."""


def is_built() -> bool:
    """Whether there are compiled kernels; if not, say so once."""
    if PATH is None:
        _warn()
    return PATH is not None


@functools.cache
def _warn() -> None:
    warnings.warn(
        "sparsact is installed without compiled kernels for this machine: plain torch replaces "
        "them, which is right and slower. Install a wheel for your platform, or a C++ compiler "
        "before you install from source",
        MissingKernelsWarning,
        stacklevel=3,
    )


@functools.cache
def _library() -> ctypes.CDLL:
    if PATH is None:
        raise ImportError("sparsact is installed without compiled kernels")
    return ctypes.CDLL(str(PATH))


def function(name: str, *arguments: Any, returns: Any = None) -> Callable[..., Any]:
    """A function of the library, with the types of its arguments."""
    compiled = getattr(_library(), name)
    compiled.argtypes, compiled.restype = arguments, returns
    return compiled  # type: ignore[no-any-return]
