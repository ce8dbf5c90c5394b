"""Smooth relatives of the thresholds."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sparsact._thresholds.arguments import (
    Threshold,
    broadcast_threshold,
    check_input,
    level_like,
    sum_to,
    values_can_be_read,
    widen,
)
from sparsact._thresholds.saving import keep, kept


def softplus(x: Tensor, beta: Threshold = 1.0, threshold: float = 20.0) -> Tensor:
    """Softplus: ``log(1 + exp(βx))/β``, computed as ``relu(x) + log1p(exp(−β|x|))/β``.

    Args:
        x: any shape, floating point.
        beta: β > 0, a float or a tensor that broadcasts to the shape of `x`; larger is closer
            to ReLU.
        threshold: accepted because ``torch.nn.functional.softplus`` has it, and not used: this
            form needs no linear cut-off. It overflows for no input, and has no jump where
            torch switches to the identity.

    Returns:
        a tensor of the shape and dtype of `x`, computed in float32 at least. NaN stays NaN.

    Gradient:
        exact: ``∂x = σ(βx)``; ``∂β = −(|x|·σ(−β|x|) + log1p(exp(−β|x|))/β)/β``.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: β is not positive and finite, or does not broadcast.

    Example:
        >>> softplus(torch.tensor([-1000.0, 0.0, 1000.0]))
        tensor([0.0000e+00, 6.9315e-01, 1.0000e+03])

    Source:
        Dugas et al., "Incorporating second-order functional knowledge" (NIPS 2000).
    """
    check_input(x, "softplus")
    beta = broadcast_threshold(beta, x, "beta")
    if isinstance(beta, Tensor):
        positive = not values_can_be_read(beta) or bool((beta > 0).all())
    else:
        positive = beta > 0
    if not positive:
        raise ValueError("beta must be positive")
    result: Tensor = _Softplus.apply(x, beta)
    return result


class _Softplus(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, beta: Threshold) -> Tensor:
        wide = widen(x)
        return (wide.relu() + _log_term(wide, level_like(beta, wide))).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Threshold], output: Tensor) -> None:
        keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, (beta,) = kept(ctx)
        wide = widen(x)
        level = level_like(beta, wide)
        grad_x = (grad * torch.sigmoid(level * wide)).to(x.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        magnitude = wide.abs()
        slope = magnitude * torch.sigmoid(-level * magnitude) + _log_term(wide, level)
        return grad_x, sum_to(-grad * slope / level, beta)


def _log_term(wide: Tensor, beta: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-beta * wide.abs())) / beta
