"""A tensor's memory by its address: an integer costs Python nothing, a NumPy array some µs each.

And memory that is used again: what Linux hands out anew it clears a page at a time, which takes
longer than to write a gradient, and large gradients are made and freed in every step.
"""

import math
import weakref
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from sparsact.kernels._cpu.runtime import Array, part

_carray: Any = numba.carray  # type: ignore[attr-defined]

_NUMPY = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,  # which `dtypes` reads
    torch.int8: np.int8,
}
LIKE = {dtype: np.empty(0, kind) for dtype, kind in _NUMPY.items()}  # tells a kernel the dtype


_LARGE = 2**22  # bytes from which the C library gives freed memory back to the system
_SPARE_AT_MOST = 4  # the gradients of an encoder and a decoder, and some other
_spare: dict[int, Array] = {}


def empty(shape: tuple[int, ...]) -> Tensor:
    """As ``torch.empty`` in float32, in memory of an earlier tensor of that shape which is gone."""
    if 4 * math.prod(shape) < _LARGE:
        return torch.empty(shape)
    memory = _taken(shape)
    lent = memory.view()  # lives as long as the tensor's storage
    weakref.finalize(lent, _give_back, memory).atexit = False
    return torch.from_numpy(lent)


def _taken(shape: tuple[int, ...]) -> Array:
    for key, memory in list(_spare.items()):
        if memory.shape == shape and _spare.pop(key, None) is not None:  # no other thread took it
            return memory
    return np.empty(shape, np.float32)


def _give_back(memory: Array) -> None:
    _spare[id(memory)] = memory
    if len(_spare) > _SPARE_AT_MOST:
        _spare.pop(next(iter(_spare)), None)


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


def _to_cache(_typing: Any, values: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(array.data, [args[1]])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, *[ir.IntType(32)] * 3])
        prefetch = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, kind, "llvm.prefetch.p0i8"
        )
        flags = [ir.Constant(ir.IntType(32), value) for value in (0, 2, 1)]  # read, L2, data
        builder.call(prefetch, [builder.bitcast(pointer, byte), *flags])
        return context.get_dummy_value()

    return types.void(values, types.intp), generate


fetch: Any = intrinsic(_to_cache)  # fetch(array, place): the line of an element, ahead of its use
