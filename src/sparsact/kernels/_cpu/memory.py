"""A tensor's memory by its address: an integer costs Python nothing, a NumPy array some µs each."""

from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic

from sparsact.kernels._cpu.runtime import Array, part

_carray: Any = numba.carray  # type: ignore[attr-defined]

_NUMPY = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,  # which `dtypes` reads
    torch.int8: np.int8,
}
LIKE = {dtype: np.empty(0, kind) for dtype, kind in _NUMPY.items()}  # tells a kernel the dtype


@part
def at(address: int, size: int, like: Array) -> Array:
    """The `size` elements at `address` as an array of the dtype of `like`; nothing is checked."""
    found: Array = _carray(_pointer(address, like), (size,))
    return found


def _typed_pointer(_typing: Any, address: Any, like: Any) -> Any:
    pointer: Any = types.CPointer(like.dtype)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.intp, like), generate


_pointer: Any = intrinsic(_typed_pointer)
