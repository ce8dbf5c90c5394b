"""Softplus: function, autograd function and module."""

from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import (
    as_number,
    broadcast_threshold,
    check_input,
    narrow,
    widen,
    widen_like,
)
from sparsact.thresholds.backward import keep, kept, sum_to
from sparsact.thresholds.forward_mode import DifferentiableFunction
from sparsact.thresholds.tracing import Unscriptable, leaf, one_node


@one_node
def softplus(x: Tensor, beta: float | Tensor = 1.0, threshold: float = 20.0) -> Tensor:
    """Softplus: ``log(1 + exp(βx))/β``, computed as ``relu(x) + log1p(exp(−β|x|))/β``.

    Args:
        x: any shape, floating point.
        beta: β > 0, a float or a tensor that broadcasts to the shape of `x`. A larger β is
            closer to ReLU. A tensor is used as |β|; β = 0 gives inf.
        threshold: not used; accepted because ``torch.nn.functional.softplus`` has it. This form
            never overflows, so it needs no linear cut-off, and has no jump where torch switches
            to the identity.

    Returns:
        a tensor of the shape and dtype of `x`, computed in float32 at least. NaN stays NaN.

    Gradient:
        exact: ``∂x = σ(βx)``; ``∂β = −(|x|·σ(−β|x|) + log1p(exp(−β|x|))/β)/β``.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: a float β is not positive and finite, or a tensor does not broadcast.

    Example:
        >>> softplus(torch.tensor([-1000.0, 0.0, 1000.0]))
        tensor([0.0000e+00, 6.9315e-01, 1.0000e+03])

    Source:
        Dugas et al., "Incorporating second-order functional knowledge" (NIPS 2000).
    """
    check_input(x, "softplus")
    beta = broadcast_threshold(beta, x, "beta")
    if not isinstance(beta, Tensor) and beta == 0:
        raise InputError("beta= must be positive, got 0")
    result: Tensor = _Softplus.run(x, beta)
    return result


class Softplus(Unscriptable):
    """Softplus as a module; see :func:`sparsact.functional.softplus`.

    Args:
        beta: the (initial) sharpness β > 0.
        threshold: not used; accepted because ``torch.nn.Softplus`` has it.
        learnable: make β a parameter of shape (1,), used as |β|.

    Shape:
        any, returned unchanged.

    Example:
        >>> Softplus(beta=10.0)(torch.tensor([0.0]))
        tensor([0.0693])
    """

    beta: float | Tensor

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, learnable: bool = False) -> None:
        super().__init__()
        if not 0 < beta < float("inf"):
            raise InputError(f"beta= must be positive and finite, got {beta}")
        self.learnable = learnable
        self.beta = nn.Parameter(torch.full((1,), float(beta))) if learnable else float(beta)

    @leaf
    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to `x`."""
        beta = self.beta.abs().reshape(()) if isinstance(self.beta, Tensor) else self.beta
        return softplus(x, beta)

    def extra_repr(self) -> str:
        """β, and how it is held."""
        beta = as_number(self.beta)
        return f"beta={beta:.4g}" + (", learnable=True" if self.learnable else "")


class _Softplus(DifferentiableFunction):
    @staticmethod
    def forward(x: Tensor, beta: float | Tensor) -> Tensor:
        wide = widen(x)
        return narrow(wide.relu() + _log_term(wide, widen_like(beta, wide)), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float | Tensor], output: Tensor) -> None:
        keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        x, (beta,) = kept(ctx)
        wide = widen(x)
        wide_beta = widen_like(beta, wide)
        grad_x = (grad * torch.sigmoid(wide_beta * wide)).to(x.dtype)
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        magnitude = wide.abs()
        slope = magnitude * torch.sigmoid(-wide_beta * magnitude) + _log_term(wide, wide_beta)
        return grad_x, sum_to(-grad * slope / wide_beta, beta)

    @classmethod
    def composite(cls, x: Tensor, beta: float | Tensor) -> Tensor:
        """The forward, with the slope ½ at 0, where relu and ``abs`` have 0."""
        wide = widen(x)
        ramp = torch.where(wide == 0, wide / 2, wide.relu())
        return (ramp + _log_term(wide, widen_like(beta, wide))).to(x.dtype)


def _log_term(wide: Tensor, beta: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-beta * wide.abs())) / beta
