"""Products with compressed sparse rows."""

import ctypes

import torch
from torch import Tensor

from sparsact.kernels.cpu.library import ADDRESS, FLOATS, INTEGER, function
from sparsact.kernels.cpu.reused_memory import empty
from sparsact.kernels.cpu.threads import threads
from sparsact.kernels.reference.csr_reference import check_bounds, check_shape

_examine = function(
    "csr_examine",
    *(ADDRESS, INTEGER, ADDRESS, INTEGER),  # offsets, rows, indices, entries
    ADDRESS,  # least and greatest index
    returns=INTEGER,
)
_multiply = function(
    "csr_product",
    *(INTEGER, INTEGER, ADDRESS, ADDRESS, ADDRESS),  # threads, rows, values, offsets, indices
    *(ADDRESS, INTEGER, ADDRESS, INTEGER, ADDRESS),  # weight, its dtype, bias, width, out
)
_sample = function(
    "csr_sample",
    *(INTEGER, INTEGER, ADDRESS, INTEGER, ADDRESS, INTEGER),  # threads, rows, left, right: dtypes
    *(ADDRESS, ADDRESS, INTEGER, ADDRESS),  # offsets, indices, width, values
)
_transpose = function(
    "csr_transpose",
    *(INTEGER, INTEGER, ADDRESS, ADDRESS, ADDRESS),  # rows, features, values, offsets, indices
    *(ADDRESS, ADDRESS, ADDRESS),  # the same of the transpose: offsets, indices, values
)


def csr_linear(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor | None
) -> Tensor:
    """Sum the indexed weight rows, times their values, for each row; and add the bias."""
    offsets, indices = _checked(values, offsets, indices, weight_t.shape[0])
    if bias is not None:
        check_shape(bias, "bias", weight_t.shape[1:])
    return _product(values, offsets, indices, weight_t, bias)


def sddmm(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Compute the entries of ``left @ right.T`` at the places of the structure."""
    offsets, indices = _checked(indices, offsets, indices, right.shape[0])
    check_shape(left, "left", (offsets.shape[0] - 1, right.shape[1]))
    return sample(left, right, offsets, indices).to(left.dtype)


def sample(left: Tensor, right: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """`sddmm` in float32, for a structure known to be sound."""
    left, right = left.contiguous(), right.contiguous()
    values = torch.empty(len(indices))
    _sample(
        threads(len(values) + len(left)),
        len(left),
        *(left.data_ptr(), FLOATS[left.dtype], right.data_ptr(), FLOATS[right.dtype]),
        *(offsets.data_ptr(), indices.data_ptr(), left.shape[1], values.data_ptr()),
    )
    return values


def csr_weight_grad(
    values: Tensor, offsets: Tensor, indices: Tensor, dense: Tensor, features: int
) -> Tensor:
    """Multiply the transposed sparse matrix by `dense`: sort by feature, then multiply."""
    offsets, indices = _checked(values, offsets, indices, features)
    check_shape(dense, "dense", (offsets.shape[0] - 1, dense.shape[1]))
    values = values.float().contiguous()
    starts, rows = offsets.new_empty(features + 1), torch.empty_like(indices)
    sorted_values = torch.empty_like(values)
    tensors = (values, offsets, indices, starts, rows, sorted_values)
    _transpose(len(offsets) - 1, features, *[tensor.data_ptr() for tensor in tensors])
    return _product(sorted_values, starts, rows, dense, None)


def _checked(
    values: Tensor, offsets: Tensor, indices: Tensor, features: int
) -> tuple[Tensor, Tensor]:
    """Return offsets and indices as int64 and contiguous; raise unless they are sound."""
    offsets, indices = offsets.long().contiguous(), indices.long().contiguous()
    ends = (ctypes.c_int64 * 2)()
    numbers = (offsets.data_ptr(), len(offsets) - 1, indices.data_ptr(), len(indices))
    sound = len(offsets) > 0 and bool(_examine(*numbers, ends))
    check_bounds(values, indices, features, ends[0], ends[1], sound)
    return offsets, indices


def _product(
    values: Tensor, offsets: Tensor, indices: Tensor, weight_t: Tensor, bias: Tensor | None
) -> Tensor:
    rows, width = len(offsets) - 1, weight_t.shape[1]
    out = (empty if weight_t.dtype == torch.float32 else weight_t.new_empty)((rows, width))
    values, weight_t = values.float().contiguous(), weight_t.contiguous()
    bias = None if bias is None else bias.float().contiguous()
    _multiply(
        threads(len(values) + rows),
        rows,
        *(values.data_ptr(), offsets.data_ptr(), indices.data_ptr()),
        *(weight_t.data_ptr(), FLOATS[weight_t.dtype]),
        None if bias is None else bias.data_ptr(),
        width,
        out.data_ptr(),
    )
    return out
