"""Modules of the shrinkages that return to the identity in straight lines."""

import math

import torch
from torch import Tensor

from sparsact._thresholds.arguments import Sides
from sparsact._thresholds.piecewise import check_a, firmshrink, scad
from sparsact.nn.threshold import BandModule, level_text


class Firmshrink(BandModule):
    """Firm shrinkage as a module; see :func:`sparsact.functional.firmshrink`.

    Args:
        lambd: the (initial) λ ≥ 0.
        learnable: make λ and μ parameters; their gradients are exact.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        upper: the (initial) μ ≥ λ, from which on inputs pass: a float, or a tensor of shape
            (num_parameters,). It is learned together with λ, and used as ``max(|μ|, |λ|)``;
            ``math.inf`` stays fixed.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Firmshrink(0.5, upper=1.0)(torch.tensor([-2.0, 0.75]))
        tensor([-2.0000,  0.5000])
    """

    upper: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        upper: float | Tensor = 1.0,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        if not bool((torch.as_tensor(upper) >= torch.as_tensor(lambd)).all()):
            raise ValueError(f"Firmshrink needs upper >= lambd everywhere, got {upper} and {lambd}")
        if isinstance(upper, Tensor) or upper < math.inf:
            self._hold("upper", upper)
        else:
            self.upper = upper

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        lambd = self.threshold(x)
        return firmshrink(
            x,
            lambd,
            self._upper(lambd, x),
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def _upper(self, lambd: float | Tensor, x: Tensor) -> float | Tensor:
        """μ for an input `x`; a learned μ that has fallen below λ acts as λ."""
        upper = self._against(self.upper, self._level_shape(x))
        if isinstance(upper, Tensor) and isinstance(lambd, Tensor):
            return torch.maximum(upper, lambd)
        return upper

    def _start(self, sample: Tensor, sparsity: float) -> None:
        """λ from the sample; a finite μ keeps its ratio to λ, or its value if λ was 0."""
        if not isinstance(self.upper, Tensor) and math.isinf(self.upper):
            return super()._start(sample, sparsity)
        before = torch.as_tensor(self.lambd).abs().clone()
        super()._start(sample, sparsity)
        after = torch.as_tensor(self.lambd)
        scaled = torch.as_tensor(self.upper).abs() * torch.where(before > 0, after / before, 1.0)
        self._set("upper", torch.maximum(scaled, after))

    def extra_repr(self) -> str:
        """λ, where the function acts, and μ."""
        return super().extra_repr() + f", upper={level_text(self.upper)}"


class SCAD(BandModule):
    """SCAD shrinkage as a module; see :func:`sparsact.functional.scad`.

    Args:
        lambd: the (initial) λ ≥ 0.
        learnable: make λ a parameter; its gradient is exact.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        a: a > 2; beyond aλ inputs pass.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> SCAD(0.5, a=4.0)(torch.tensor([-4.0, -0.75, 1.5]))
        tensor([-4.0000, -0.2500,  1.2500])
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        a: float = 3.7,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        check_a(a)
        self.a = a

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return scad(
            x,
            self.threshold(x),
            self.a,
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def extra_repr(self) -> str:
        """λ, where the function acts, and a."""
        return super().extra_repr() + f", a={self.a:g}"
