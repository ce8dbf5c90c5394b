"""A tensor's memory by its address: an integer costs Python nothing, a NumPy array some µs each."""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from sparsact.kernels._cpu.runtime import Array, part

_NUMPY = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,  # which `dtypes` reads
    torch.int8: np.int8,
    torch.int32: np.int32,
    torch.int64: np.int64,
}
LIKE = {dtype: np.empty(0, kind) for dtype, kind in _NUMPY.items()}  # tells a kernel the dtype


@part
def at(address: int, size: int, like: Array) -> Array:
    """The `size` elements at `address` as an array of the dtype of `like`; nothing is checked."""
    return carray(_pointer(address, like), (size,))


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_typing: Any, address: Any, like: Any) -> Any:
    pointer = types.CPointer(like.dtype)

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.intp, like), generate
