"""A penalty as a layer, and the identity that adds a gradient in backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.reduction import Reduction, check_reduction, divisor
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.tracing import Unscriptable, leaf


class ActivityPenalty(Unscriptable):
    """An identity layer that adds the gradient of a penalty in backward.

    The training loop and the loss do not change. In eval mode the layer does nothing.

    Args:
        penalty: a callable from a tensor to a scalar, such as ``sparsact.L1(1e-3)``.
        reduction: ``"sum"``, ``"mean"``, ``"batch_mean"`` or ``"token_mean"``, as in
            :class:`sparsact.ActivationPenalty`.

    Shape:
        any, returned unchanged. Torch raises if a later layer, such as
        ``nn.ReLU(inplace=True)``, changes the output in place.

    Gradient:
        that of ``loss + penalty(x)/n``, with the n of `reduction`. Backward does not know a factor
        that multiplies the loss (a loss scale, 1/accumulation steps), so the gradient of the
        penalty is not multiplied by it.

    Raises:
        ValueError: `reduction` is unknown.

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

    @leaf
    def forward(self, x: Tensor) -> Tensor:
        """Return `x`; in training mode, the penalty on it joins the backward pass."""
        if not (self.training and torch.is_grad_enabled()):
            return x
        value = self.penalty(x) / divisor(x, self.reduction)
        return inject(x, value) if value.requires_grad else x

    def extra_repr(self) -> str:
        """The penalty and its reduction."""
        return f"{self.penalty!r}, reduction={self.reduction!r}"


def inject(x: Tensor, value: Tensor) -> Tensor:
    """Return `x` such that backward also sends a gradient of 1 into the scalar `value`."""
    injected: Tensor = _Inject.run(x, value)
    return injected


class _Inject(DifferentiableFunction):
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

    @classmethod
    def tangent(cls, ctx: Any, x: Tensor, *_: Any) -> Tensor:
        """That of the identity: the value joins backward only."""
        return x.view_as(x)

    @classmethod
    def composite(cls, *_: Any) -> Any:
        """There is none: the value joins the backward pass, which torch ignores here."""
        raise InputError(
            "torch.compile(torch.func.grad(...)) ignores a penalty that joins the backward pass; "
            "compile inside the transform, or add the penalty to the loss"
        )
