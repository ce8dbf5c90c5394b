"""A penalty as a layer, and the averaging that every hung penalty shares."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd import Function

Reduction = Literal["sum", "mean", "batch_mean", "token_mean"]


def check_reduction(reduction: str) -> None:
    """Raise unless `reduction` is one of the four."""
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {get_args(Reduction)}, got {reduction!r}")


def divisor(x: Tensor, reduction: Reduction) -> int:
    """What the sum of a penalty over `x` is divided by; 1 for an empty `x`.

    ``sum`` 1, ``mean`` the number of entries, ``batch_mean`` the size of dim 0 (as Keras 3.15
    divides an activity regularizer; its documented meaning, which earlier versions of Keras 3
    left out), ``token_mean`` the number of positions: every dim but the last.
    """
    if reduction == "sum" or x.ndim == 0 or x.numel() == 0:
        return 1
    if reduction == "mean":
        return x.numel()
    return x.shape[0] if reduction == "batch_mean" else x.numel() // x.shape[-1]


class ActivityPenalty(nn.Module):
    """Identity that adds a penalty's gradient in backward: a penalty placed as a layer.

    The training loop and the loss stay as they are. In eval mode it does nothing.

    Args:
        penalty: any callable from a tensor to a scalar, such as ``sparsact.L1(1e-3)``.
        reduction: ``"sum"``, ``"mean"``, ``"batch_mean"`` or ``"token_mean"``.

    Shape:
        any, returned unchanged; what changes it in place later, as ``nn.ReLU(inplace=True)``, is
        refused by torch.

    Gradient:
        that of ``loss + penalty(x)/n``, n given by `reduction`. Backward cannot see a factor
        that multiplies the loss (a loss scale, 1/accumulation steps): the penalty's gradient is
        not multiplied by it.

    Example:
        >>> import sparsact as sa
        >>> layer = ActivityPenalty(sa.L1(0.1), reduction="sum")
        >>> x = torch.tensor([2.0, -3.0], requires_grad=True)
        >>> layer(x).sum().backward()
        >>> x.grad
        tensor([1.1000, 0.9000])
    """

    def __init__(
        self, penalty: Callable[[Tensor], Tensor], reduction: Reduction = "batch_mean"
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.penalty = penalty
        self.reduction: Reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`; in training mode the penalty on it joins the backward pass."""
        if not (self.training and torch.is_grad_enabled()):
            return x
        value = self.penalty(x) / divisor(x, self.reduction)
        return inject(x, value) if value.requires_grad else x

    def extra_repr(self) -> str:
        """The penalty and its reduction."""
        return f"{self.penalty!r}, reduction={self.reduction!r}"


def inject(x: Tensor, value: Tensor) -> Tensor:
    """Return `x` such that backward also sends a gradient of 1 into the scalar `value`."""
    injected: Tensor = _Inject.apply(x, value)
    return injected


class _Inject(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, value: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.like = inputs[1].dtype, inputs[1].device

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        dtype, device = ctx.like
        return grad, torch.ones((), dtype=dtype, device=device)
