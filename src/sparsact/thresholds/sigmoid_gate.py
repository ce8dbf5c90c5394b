"""The smooth gate: function and module."""

import torch
from torch import Tensor

from sparsact.thresholds.arguments import (
    Sides,
    broadcast_threshold,
    check_input,
    check_positive,
    restrict,
    widen,
    widen_like,
)
from sparsact.thresholds.threshold_module import BandModule
from sparsact.thresholds.tracing import leaf, one_node


@one_node
def sigmoid_gate(
    x: Tensor,
    lambd: float | Tensor = 0.5,
    temperature: float = 0.1,
    *,
    sides: Sides = "both",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Smooth gate: ``x·σ((|x| − λ)/T)``, which converges to hard shrinkage as T → 0.

    Args:
        x: any shape, floating point.
        lambd: λ ≥ 0, a float or a tensor that broadcasts to the shape of `x`.
        temperature: T > 0, the width of the transition, in the units of `x`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        mask: boolean, broadcasts to `x`; the function acts where it is True.
        zero_other: entries outside `sides` and `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. It has exact zeros only where `x` is 0 or the
        sigmoid underflows. NaN stays NaN.

    Gradient:
        exact, by autograd, to `x` and λ.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: a float λ is negative or not finite, or a tensor does not broadcast;
            T is not positive.

    Example:
        >>> sigmoid_gate(torch.tensor([0.0, 0.5, 5.0]), 0.5, temperature=0.1)
        tensor([0.0000, 0.2500, 5.0000])
    """
    check_input(x, "sigmoid_gate")
    check_positive(temperature, "temperature")
    lambd = broadcast_threshold(lambd, x)
    wide = widen(x)
    gate = torch.sigmoid((wide.abs() - widen_like(lambd, wide)) / temperature)
    gated = (wide * gate).to(x.dtype)
    return restrict(x, gated, sides, mask, zero_other)


class SigmoidGate(BandModule):
    """Smooth gate as a module; see :func:`sparsact.functional.sigmoid_gate`.

    Args:
        lambd: the (initial) λ ≥ 0. It and the arguments not listed here are those of
            :class:`BandModule`. The gradient of a learned λ is exact.
        temperature: T > 0, the width of the transition.

    The gate has no band of exact zeros, so ``init_from`` sets the share of entries whose gate is
    at most half open.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> SigmoidGate(0.5, temperature=0.1)(torch.tensor([0.0, 0.5]))
        tensor([0.0000, 0.2500])
    """

    _shrinks_modulus = False

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        temperature: float = 0.1,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        self.temperature = temperature

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, or only where `mask` is True."""
        return sigmoid_gate(
            x,
            self.threshold(x),
            self.temperature,
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def extra_repr(self) -> str:
        """λ, where the gate acts, and its temperature."""
        return super().extra_repr() + f", temperature={self.temperature:g}"
