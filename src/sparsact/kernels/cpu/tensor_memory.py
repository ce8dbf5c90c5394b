"""A tensor's memory inside a kernel: as a NumPy array, or by its address.

Passing an address costs Python nothing; passing a NumPy array costs some µs.
"""

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from sparsact.kernels.cpu.compiling import Array, part

_carray: Any = numba.carray  # type: ignore[attr-defined]

_NUMPY = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,  # see `kernel_dtypes`
    torch.int8: np.int8,
}
LIKE = {dtype: np.empty(0, numpy_dtype) for dtype, numpy_dtype in _NUMPY.items()}
"""Empty arrays: as an argument they give a kernel the dtype."""


def array(tensor: Tensor) -> Array:
    """The same memory as a NumPy array; bfloat16 comes as uint16, see `kernel_dtypes`."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    memory: Array = tensor.numpy()
    return memory


@part
def at(address: int, size: int, like: Array) -> Array:
    """The `size` elements at `address` as an array of the dtype of `like`; nothing is checked."""
    memory: Array = _carray(_pointer(address, like), (size,))
    return memory


def _typed_pointer(_typing: Any, address: Any, like: Any) -> Any:
    pointer: Any = types.CPointer(like.dtype)

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.intp, like), generate


_pointer: Any = intrinsic(_typed_pointer)


def _to_cache(_typing: Any, values: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(array.data, [args[1]])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, *[ir.IntType(32)] * 3])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        flags = [ir.Constant(ir.IntType(32), value) for value in (0, 2, 1)]  # read, L2, data
        builder.call(prefetch, [builder.bitcast(pointer, byte), *flags])
        return context.get_dummy_value()

    return types.void(values, types.intp), generate


fetch: Any = intrinsic(_to_cache)
"""``fetch(array, place)`` loads the cache line of an element ahead of its use."""
