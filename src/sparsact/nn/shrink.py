"""Shrinkage modules."""

from torch import Tensor

from sparsact._thresholds.arguments import Sides
from sparsact._thresholds.shrink import hardshrink, softshrink
from sparsact._thresholds.straight_through import (
    Kernel,
    check_bandwidth,
    check_kernel,
    window_text,
)
from sparsact.nn.threshold import BandModule


class Softshrink(BandModule):
    """Soft shrinkage as a module; see :func:`sparsact.functional.softshrink`.

    Args:
        lambd: the (initial) λ ≥ 0.
        learnable: make λ a parameter; its gradient is exact.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Softshrink(0.5)(torch.tensor([-2.0, 0.2]))
        tensor([-1.5000,  0.0000])
        >>> Softshrink(0.1, learnable=True, num_parameters=64, channel_dim=-1)
        Softshrink(lambd=0.1, learnable=True, num_parameters=64, channel_dim=-1)
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return softshrink(
            x, self.threshold(x), sides=self.sides, mask=mask, zero_other=self.zero_other
        )


class Hardshrink(BandModule):
    """Hard shrinkage as a module; see :func:`sparsact.functional.hardshrink`.

    Args:
        lambd: the (initial) λ ≥ 0.
        learnable: make λ a parameter; its gradient is straight-through.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        bandwidth: width of the window around ±λ in which a learned λ receives a gradient.
        kernel: shape of that window: ``"rectangle"``, ``"triangle"`` or ``"sigmoid"``.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Hardshrink(0.5)(torch.tensor([-2.0, 0.2]))
        tensor([-2.,  0.])
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        bandwidth: float = 0.05,
        kernel: Kernel = "rectangle",
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(
            lambd, learnable, num_parameters, channel_dim, sides=sides, zero_other=zero_other
        )
        check_bandwidth(bandwidth)
        check_kernel(kernel)
        self.bandwidth = bandwidth
        self.kernel: Kernel = kernel

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return hardshrink(
            x,
            self.threshold(x),
            bandwidth=self.bandwidth,
            kernel=self.kernel,
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def extra_repr(self) -> str:
        """λ, and the window through which it learns."""
        return super().extra_repr() + window_text(self.learnable, self.bandwidth, self.kernel)
