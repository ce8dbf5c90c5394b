"""Dense activations to compressed sparse rows: the entries above a threshold, with their places."""

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from sparsact.kernels.definition import define
from sparsact.kernels.ops.operand_checks import check_matrix, per_column
from sparsact.kernels.reference import selection_reference as reference

_Triple = tuple[Tensor, Tensor, Tensor]


def threshold_compress(x: Tensor, threshold: float | Tensor = 0.0) -> Tensor:
    """Return the entries ``|x| > λ`` as a sparse CSR tensor; the others are dropped.

    Args:
        x: (rows, columns), floating point; a non-contiguous one is copied.
        threshold: λ ≥ 0, a float or a tensor of shape (columns,). The values of a tensor are not
            checked. The default keeps all entries that are not zero.

    Returns:
        a ``torch.sparse_csr`` tensor of the shape and dtype of `x`; columns ascend in each row.
        Indices are int32, or int64 if `x` has 2³¹ entries or more. NaN is kept. λ is compared in
        float32 (float64 for float64) and not rounded to the dtype of `x`.

    Gradient:
        exact for `x`: 1 at the kept entries, 0 elsewhere. None for λ.

    Raises:
        TypeError: `x` or λ is not floating point.
        ValueError: `x` is not a dense matrix, or λ has another shape or device.

    Example:
        >>> threshold_compress(torch.tensor([[0.1, -2.0, 0.0], [0.0, 0.3, 3.0]]), 0.2).values()
        tensor([-2.0000,  0.3000,  3.0000])
    """
    check_matrix(x, "x")
    level = per_column(threshold, x)
    values, offsets, columns = torch.ops.sparsact.threshold_compress(x, level)
    if not torch.compiler.is_compiling():
        _silence_beta_warning()
    return torch.sparse_csr_tensor(
        offsets,
        columns,
        values,
        x.shape,
        check_invariants=False,  # they hold by construction
    )


@functools.cache
def _silence_beta_warning() -> None:
    """Trigger and ignore torch's warning that CSR tensors are in beta; it comes once per process.

    Warning filters belong to the process, so they are changed for this moment only.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        torch.eye(1).to_sparse_csr()


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
    cpu="threshold_compress",
)
torch.library.register_autograd("sparsact::threshold_compress", _backward, setup_context=_setup)
