"""A linear layer that returns only outputs above a threshold: a sparse encoder."""

from typing import Any, Literal

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.kernels.definition import define
from sparsact.kernels.ops.csr_linear import Entries, summed_by_feature
from sparsact.kernels.ops.operand_checks import check_linear, per_column
from sparsact.kernels.reference import selection_reference as reference

_Triple = tuple[Tensor, Tensor, Tensor]


def linear_threshold(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    threshold: float | Tensor = 0.0,
    *,
    by: Literal["value", "magnitude"] = "value",
) -> Entries:
    """Return the entries of ``y = x @ weight.T + bias`` with ``y > θ``, and their places.

    The matrix (rows, features) is computed and searched block by block; it is never in memory at
    once.

    Args:
        x: (rows, in), floating point; a non-contiguous one is copied where needed.
        weight: (features, in), of the dtype of `x`; the weight of a ``torch.nn.Linear``.
        bias: (features,), or None.
        threshold: θ, a finite float or a tensor of shape (features,). The values of a tensor are
            not checked. θ may be negative if `by` is ``"value"``.
        by: ``"value"`` keeps ``y > θ``, ``"magnitude"`` keeps ``|y| > θ``.

    Returns:
        values (entries,), of the dtype of `x`; offsets (rows + 1,) of each row's first entry and
        columns (entries,), both int64. Columns ascend in each row. NaN passes. Sums are float32
        (float64 for float64) and are compared with θ before they are rounded to a narrower dtype.
        `csr_linear` accepts the result.

    Gradient:
        exact for `x`, `weight` and `bias`, of any order, through the returned entries; the work
        is proportional to their number. None for θ.

    Raises:
        TypeError: a dtype is not floating point, or dtypes differ.
        ValueError: wrong shapes, sparse tensors, several devices, an unknown `by`, a θ that is
            not finite, or a negative θ with ``by="magnitude"``.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> linear_threshold(x, weight, None, 1.0)
        Entries(values=tensor([2.]), offsets=tensor([0, 1]), columns=tensor([1]))
    """
    check_linear(x, weight, bias)
    if by not in ("value", "magnitude"):
        raise InputError(f"by must be 'value' or 'magnitude', got {by!r}")
    upper = per_column(threshold, weight.T, signed=by == "value")
    lower = -upper if by == "magnitude" else torch.full_like(upper, -torch.inf)
    return Entries(*torch.ops.sparsact.linear_threshold(x, weight, bias, lower, upper))


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, lower: Tensor, upper: Tensor) -> _Triple:
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        x.new_empty(count),
        x.new_empty(x.shape[0] + 1, dtype=torch.int64),
        x.new_empty(count, dtype=torch.int64),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: _Triple) -> None:
    _, offsets, columns = output
    ctx.mark_non_differentiable(offsets, columns)
    ctx.save_for_backward(*inputs[:2], offsets, columns)


def _backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x, weight, offsets, columns = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, *_others = ctx.needs_input_grad
    features, ops = weight.shape[0], torch.ops.sparsact
    return (
        ops.csr_linear(grad, offsets, columns, weight, None) if needs_x else None,
        ops.csr_weight_grad(grad, offsets, columns, x, features) if needs_weight else None,
        summed_by_feature(grad, columns, features) if needs_bias else None,
        None,
        None,
    )


define(
    "linear_threshold",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor lower, Tensor upper) "
    "-> (Tensor, Tensor, Tensor)",
    reference.linear_threshold,
    _fake,
    cpu="linear_threshold",
)
torch.library.register_autograd("sparsact::linear_threshold", _backward, setup_context=_setup)
