"""A linear layer of which only what passes a threshold is wanted: a sparse encoder."""

from typing import Any, Literal

import torch
from torch import Tensor

from sparsact.kernels._library import define
from sparsact.kernels._reference import threshold as reference
from sparsact.kernels.compress import check_matrix, per_column
from sparsact.kernels.csr import Entries, check_dense, summed_by_feature

_Triple = tuple[Tensor, Tensor, Tensor]


def linear_threshold(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    threshold: float | Tensor = 0.0,
    *,
    by: Literal["value", "magnitude"] = "value",
) -> Entries:
    """The entries of ``y = x @ weight.T + bias`` with ``y > θ``, and where they stand.

    The matrix (rows, features) is made and searched block by block and never held as a whole.

    Args:
        x: (rows, in), floating point; a non-contiguous one is copied where needed.
        weight: (features, in), of the dtype of `x`, as ``torch.nn.Linear`` has it.
        bias: (features,), or None.
        threshold: θ, a finite float or a tensor of shape (features,), whose values are taken to
            be finite; by value it may be negative.
        by: ``"magnitude"`` keeps ``|y| > θ`` instead.

    Returns:
        values (entries,), of the dtype of `x`, offsets (rows + 1,) of each row's first entry and
        columns (entries,), both int64; columns ascend in each row. NaN passes. Sums are taken in
        float32 (float64 for float64) and compared so with θ: values of a narrower dtype are
        rounded afterwards. `csr_linear` takes the three as they are.

    Gradient:
        exact for `x`, `weight` and `bias`, of any order, through the entries that passed: its
        work is that of these entries. None for θ.

    Raises:
        TypeError: dtypes that are not floating point or differ.
        ValueError: shapes that do not fit, sparse tensors, several devices, a θ that is not
            finite or, by magnitude, is negative, or another `by`.

    Example:
        >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> linear_threshold(x, weight, None, 1.0)
        Entries(values=tensor([2.]), offsets=tensor([0, 1]), columns=tensor([1]))
    """
    check_matrix(x, "x")
    check_matrix(weight, "weight")
    check_dense(weight, "weight", x, (weight.shape[0], x.shape[1]))
    if bias is not None:
        check_dense(bias, "bias", x, weight.shape[:1])
    if by not in ("value", "magnitude"):
        raise ValueError(f"by must be 'value' or 'magnitude', got {by!r}")
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
    cpu="threshold",
)
torch.library.register_autograd("sparsact::linear_threshold", _backward, setup_context=_setup)
