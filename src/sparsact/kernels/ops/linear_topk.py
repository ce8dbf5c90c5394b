"""A linear layer that returns only the largest outputs of each row: a sparse encoder."""

from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.definition import define
from sparsact.kernels.ops.csr_linear import summed_by_feature
from sparsact.kernels.ops.operand_checks import check_linear
from sparsact.kernels.reference import selection_reference as reference
from sparsact.kernels.reference.csr_reference import row_offsets

_Pair = tuple[Tensor, Tensor]


def linear_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    *,
    select_dtype: torch.dtype | None = None,
) -> _Pair:
    """Return the k largest entries of each row of x @ weight.T + bias, and their places.

    The matrix (rows, features) is computed and searched block by block; it is never in memory at
    once.

    Args:
        x: (rows, in), floating point; a non-contiguous one is copied where needed.
        weight: (features, in), of the dtype of `x`; the weight of a ``torch.nn.Linear``.
        bias: (features,), or None.
        k: the number of entries to keep in each row, 0 ≤ k ≤ features.
        select_dtype: ``torch.bfloat16`` selects by a product in bfloat16. The selected values are
            then computed again, so they are exact; only entries close to the k-th may differ.
            This applies on CPUs with bfloat16 units (AVX-512 BF16, AMX, ARM's BF16) and on other
            devices. A CPU without them is faster in float32 and selects in float32. None selects
            in float32 everywhere.

    Returns:
        values (rows, k), of the dtype of `x`, and indices (rows, k), int64. Values descend, as in
        ``torch.topk``; NaN comes first, and among equal values the lower index. Sums are float32
        (float64 for float64); the selection compares them before they are rounded to a narrower
        dtype. `csr_linear` accepts the pair.

    Gradient:
        exact for `x`, `weight` and `bias`, of any order, through the selected entries. The work
        is proportional to their number. The bits do not depend on the number of threads.

    Raises:
        TypeError: a dtype is not floating point, dtypes differ, an unsupported `select_dtype`, or
            a k that is not an integer.
        ValueError: wrong shapes, sparse tensors, several devices, or k out of range.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> linear_topk(x, weight, None, 1)
        (tensor([[2.]]), tensor([[1]]))
    """
    check_linear(x, weight, bias)
    if not isinstance(k, (int, torch.SymInt)):
        raise TypeError(f"k must be an integer, got {k!r}")
    if not 0 <= k <= weight.shape[0]:
        raise InputError(f"k must lie in 0 … {weight.shape[0]}, the features; got {k}")
    if select_dtype not in (None, torch.bfloat16):
        raise TypeError(f"select_dtype must be torch.bfloat16 or None, got {select_dtype}")
    values, indices = torch.ops.sparsact.linear_topk(x, weight, bias, k, select_dtype)
    return values, indices


def _fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, k: int, select_dtype: torch.dtype | None
) -> _Pair:
    return x.new_empty(x.shape[0], k), x.new_empty(x.shape[0], k, dtype=torch.int64)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: _Pair) -> None:
    x, weight, *_ = inputs
    _, indices = output
    ctx.mark_non_differentiable(indices)
    ctx.save_for_backward(x, weight, indices)


def _backward(ctx: Any, grad: Tensor, _indices: None) -> tuple[Tensor | None, ...]:
    x, weight, indices = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    entries = grad.flatten(), indices.flatten()
    sparse = entries[0], row_offsets(indices), entries[1]
    features, ops = weight.shape[0], torch.ops.sparsact
    return (
        ops.csr_linear(*sparse, weight, None) if needs_x else None,
        ops.csr_weight_grad(*sparse, x, features) if needs_weight else None,
        summed_by_feature(*entries, features) if needs_bias else None,
        None,
        None,
    )


define(
    "linear_topk",
    "(Tensor x, Tensor weight, Tensor? bias, SymInt k, ScalarType? select_dtype) "
    "-> (Tensor, Tensor)",
    reference.linear_topk,
    _fake,
    cpu="linear_topk",
    gpu="linear_topk",
)
torch.library.register_autograd("sparsact::linear_topk", _backward, setup_context=_setup)
