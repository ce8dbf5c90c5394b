"""A linear layer whose output gradient is mostly zeros, such as an encoder below a threshold."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

from sparsact.kernels.ops.operand_checks import check_linear, per_column


def sparse_grad_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, with a backward that skips zeros in the output's gradient.

    Where a ReLU or a threshold passes few entries, few entries receive a gradient. Backward then
    costs one pass over the gradient, and work proportional to the number of these entries.

    Args:
        x: (rows, in), floating point.
        weight: (features, in), of the dtype of `x`; the weight of a ``torch.nn.Linear``.
        bias: (features,), or None.

    Returns:
        (rows, features).

    Gradient:
        exact, of any order. It is slower than that of ``torch.nn.functional.linear`` if more than
        a few percent of the output's gradient are not zero.

    Raises:
        TypeError: a dtype is not floating point, or dtypes differ.
        ValueError: wrong shapes, or several devices.

    Example:
        >>> x, weight = torch.ones(2, 3), torch.ones(4, 3, requires_grad=True)
        >>> sparse_grad_linear(x, weight).relu().sum().backward()
        >>> weight.grad[0]
        tensor([2., 2., 2.])
    """
    check_linear(x, weight, bias)
    product: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


class _Linear(Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        ops = torch.ops.sparsact
        entries = ops.threshold_compress(grad, per_column(0.0, grad))
        return (
            ops.csr_linear(*entries, weight, None) if needs_x else None,
            ops.csr_weight_grad(*entries, x, weight.shape[0]) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )
