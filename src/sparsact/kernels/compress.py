"""Dense activations to compressed sparse rows: what exceeds a threshold, and where it stood."""

import functools
import math
import warnings
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels._library import define
from sparsact.kernels._reference import compress as reference

_Triple = tuple[Tensor, Tensor, Tensor]


def threshold_compress(x: Tensor, threshold: float | Tensor = 0.0) -> Tensor:
    """The entries ``|x| > λ`` as a sparse CSR tensor; the others are dropped.

    Args:
        x: (rows, columns), floating point; a non-contiguous one is copied.
        threshold: λ ≥ 0, a float or a tensor of shape (columns,), whose values are taken to be
            so. The default keeps what is not zero.

    Returns:
        a ``torch.sparse_csr`` tensor of the shape and dtype of `x`, columns ascending in each
        row. Indices are int32, or int64 where `x` has 2³¹ entries or more. NaN is active. λ is
        compared in float32 (float64 for float64) and not rounded to the dtype of `x`.

    Gradient:
        exact for `x`: 1 at the entries that are kept, 0 elsewhere. None for λ.

    Raises:
        TypeError: `x` or λ is not floating point.
        ValueError: `x` is not a dense matrix, λ is not of shape (columns,), or on another device.

    Example:
        >>> threshold_compress(torch.tensor([[0.1, -2.0, 0.0], [0.0, 0.3, 3.0]]), 0.2).values()
        tensor([-2.0000,  0.3000,  3.0000])
    """
    check_matrix(x, "x")
    level = per_column(threshold, x)
    values, offsets, columns = torch.ops.sparsact.threshold_compress(x, level)
    if not torch.compiler.is_compiling():
        _let_torch_say_beta()
    return torch.sparse_csr_tensor(
        offsets,
        columns,
        values,
        x.shape,
        check_invariants=False,  # they hold by construction
    )


@functools.cache
def _let_torch_say_beta() -> None:
    """Have torch say, unheard, that CSR tensors are in beta: it does so once in a process.

    Filters are of the whole process, so they are changed for this moment only.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        torch.eye(1).to_sparse_csr()


def check_matrix(tensor: Tensor, name: str) -> None:
    """Raise unless `tensor` is a dense floating-point matrix."""
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got the layout {tensor.layout}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
    if tensor.ndim != 2:
        raise ValueError(f"{name} must have 2 dims, got the shape {tuple(tensor.shape)}")


def check_level(threshold: float, *, signed: bool = False) -> None:
    """Raise unless a number can be a threshold, if `signed` a negative one too."""
    if not math.isfinite(threshold) or (threshold < 0 and not signed):
        least = "" if signed else " and at least 0"
        raise ValueError(f"threshold must be finite{least}, got {threshold}")


def per_column(threshold: float | Tensor, x: Tensor, *, signed: bool = False) -> Tensor:
    """λ for each column of `x`, (columns,) in the dtype in which it is compared."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not isinstance(threshold, Tensor):
        check_level(threshold, signed=signed)
        return torch.full((x.shape[-1],), threshold, dtype=dtype, device=x.device)
    if not threshold.is_floating_point():
        raise TypeError(f"threshold must be floating point, got {threshold.dtype}")
    if threshold.device != x.device:
        raise ValueError(f"threshold is on {threshold.device}, the input on {x.device}")
    if threshold.shape not in ((), x.shape[-1:]):
        raise ValueError(
            f"threshold must be a number or of shape ({x.shape[-1]},), one for each column; got "
            f"{tuple(threshold.shape)}"
        )
    return threshold.detach().to(dtype).expand(x.shape[-1]).contiguous()


def _fake(x: Tensor, threshold: Tensor) -> _Triple:
    count = torch.library.get_ctx().new_dynamic_size()
    index = reference.index_dtype(x)
    return (
        x.new_empty(count),
        x.new_empty(x.shape[0] + 1, dtype=index),
        x.new_empty(count, dtype=index),
    )


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: _Triple) -> None:
    _, offsets, columns = output
    ctx.mark_non_differentiable(offsets, columns)
    ctx.save_for_backward(offsets, columns)
    ctx.shape = inputs[0].shape


def _backward(ctx: Any, grad: Tensor, _offsets: None, _columns: None) -> tuple[Tensor, None]:
    offsets, columns = ctx.saved_tensors
    rows, width = ctx.shape
    place = torch.arange(columns.shape[0], device=columns.device)
    row = torch.searchsorted(offsets.long(), place, right=True) - 1
    dense = grad.new_zeros(rows * width).scatter(0, row * width + columns, grad)
    return dense.view(rows, width), None


define(
    "threshold_compress",
    "(Tensor x, Tensor threshold) -> (Tensor, Tensor, Tensor)",
    reference.threshold_compress,
    _fake,
    cpu="compress",
)
torch.library.register_autograd("sparsact::threshold_compress", _backward, setup_context=_setup)
