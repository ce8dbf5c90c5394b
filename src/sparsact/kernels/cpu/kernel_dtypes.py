"""Scalars of every supported dtype inside a kernel, and what the CPU does with bfloat16.

NumPy has no bfloat16: such arrays come as uint16, the upper half of a float32.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 units; without them torch.mm takes 7 times as long in it.

    False too where torch is too old to know: then float32 is used, which is slower and right.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # the last two are ARM's
    return any(capabilities.get(unit) for unit in units)


def wide(value: Any) -> Any:
    """A scalar read from an array, int8 included, as float32; float64 stays float64."""
    raise NotImplementedError("for use inside kernels")


def narrow(value: Any, like: Any) -> Any:
    """A float32 as the type of `like`; bfloat16 is rounded to nearest, ties to even."""
    raise NotImplementedError("for use inside kernels")


@overload(wide)
def _wide(value: Any) -> Callable[..., Any]:
    def upper_half(value: Any) -> Any:
        return np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)

    def as_float(value: Any) -> Any:
        return np.float32(value)

    def same(value: Any) -> Any:
        return value

    return {types.uint16: upper_half, types.int8: as_float}.get(value, same)


@overload(narrow)
def _narrow(value: Any, like: Any) -> Callable[..., Any]:
    def rounded(value: Any, like: Any) -> Any:
        bits = np.float32(value).view(np.uint32)
        odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        upper = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
        return np.uint16(0x7FC0) if value != value else upper

    def same(value: Any, like: Any) -> Any:
        return value

    return rounded if like == types.uint16 else same
