"""A linear layer of which only each row's largest outputs are wanted: a sparse encoder."""

from typing import Any

import torch
from torch import Tensor

from sparsact.kernels._library import define
from sparsact.kernels._reference import topk as reference
from sparsact.kernels._reference.csr import row_offsets
from sparsact.kernels.compress import check_matrix
from sparsact.kernels.csr import check_dense, summed_by_feature

_Pair = tuple[Tensor, Tensor]


def linear_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    *,
    select_dtype: torch.dtype | None = None,
) -> _Pair:
    """The k largest entries of each row of x @ weight.T + bias, and where they stand.

    The matrix (rows, features) is made and searched block by block and never held as a whole.

    Args:
        x: (rows, in), floating point; a non-contiguous one is copied where needed.
        weight: (features, in), of the dtype of `x`, as ``torch.nn.Linear`` has it.
        bias: (features,), or None.
        k: how many to keep of each row, 0 ≤ k ≤ features.
        select_dtype: ``torch.bfloat16`` allows to select by a product in bfloat16. What is
            selected is computed again, so the values are as exact as without; only an entry close
            to the k-th may have taken its place. It is done where the CPU multiplies in bfloat16
            (AVX-512 BF16, AMX, ARM's BF16) and on other devices; a CPU without such units is
            faster in float32, and selects by that. None selects by float32 everywhere.

    Returns:
        values (rows, k), of the dtype of `x`, and indices (rows, k), int64. Values descend, as
        those of ``torch.topk``; NaN comes first, and among equal values the lower index. Sums
        are taken in float32 (float64 for float64), and selection is by these: values of a
        narrower dtype are rounded afterwards. `csr_linear` takes the pair as it is.

    Gradient:
        exact for `x`, `weight` and `bias`, of any order, through the entries that were selected.
        Its work is that of these entries; the same bits for any number of threads.

    Raises:
        TypeError: dtypes that are not floating point or differ, another `select_dtype`, or a k
            that is not an integer.
        ValueError: shapes that do not fit, sparse tensors, several devices, or k out of range.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> linear_topk(x, weight, None, 1)
        (tensor([[2.]]), tensor([[1]]))
    """
    check_matrix(x, "x")
    check_matrix(weight, "weight")
    check_dense(weight, "weight", x, (weight.shape[0], x.shape[1]))
    if bias is not None:
        check_dense(bias, "bias", x, weight.shape[:1])
    if not isinstance(k, (int, torch.SymInt)):
        raise TypeError(f"k must be an integer, got {k!r}")
    if not 0 <= k <= weight.shape[0]:
        raise ValueError(f"k must lie in 0 … {weight.shape[0]}, the features; got {k}")
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
    cpu="topk",
)
torch.library.register_autograd("sparsact::linear_topk", _backward, setup_context=_setup)
