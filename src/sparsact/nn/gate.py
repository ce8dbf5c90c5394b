"""Gate modules."""

from torch import Tensor

from sparsact._thresholds.arguments import Sides, widen
from sparsact._thresholds.gate import jumprelu, sigmoid_gate
from sparsact._thresholds.straight_through import (
    Kernel,
    check_bandwidth,
    check_kernel,
    window_text,
)
from sparsact.nn.threshold import BandModule


class JumpReLU(BandModule):
    """JumpReLU as a module; see :func:`sparsact.functional.jumprelu`.

    Args:
        threshold: the (initial) θ ≥ 0; held as ``lambd``, as in every threshold module.
        learnable: make θ a parameter; its gradient is straight-through.
        num_parameters: number of θ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several θ.
        bandwidth: width of the window around θ in which a learned θ receives a gradient.
        kernel: shape of that window: ``"rectangle"``, ``"triangle"`` or ``"sigmoid"``.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> JumpReLU(0.5)(torch.tensor([-2.0, 0.2, 1.0]))
        tensor([0., 0., 1.])
    """

    def __init__(
        self,
        threshold: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        bandwidth: float = 0.05,
        kernel: Kernel = "rectangle",
    ) -> None:
        super().__init__(threshold, learnable, num_parameters, channel_dim)
        check_bandwidth(bandwidth)
        check_kernel(kernel)
        self.bandwidth = bandwidth
        self.kernel: Kernel = kernel

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return jumprelu(
            x, self.threshold(x), bandwidth=self.bandwidth, kernel=self.kernel, mask=mask
        )

    def _score(self, sample: Tensor) -> tuple[Tensor, None]:
        return widen(sample), None

    def extra_repr(self) -> str:
        """θ, and the window through which it learns."""
        return super().extra_repr() + window_text(self.learnable, self.bandwidth, self.kernel)


class SigmoidGate(BandModule):
    """Smooth gate as a module; see :func:`sparsact.functional.sigmoid_gate`.

    Args:
        lambd: the (initial) λ ≥ 0.
        learnable: make λ a parameter; its gradient is exact.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        temperature: T > 0, the width of the transition.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.

    There is no dead band: ``init_from`` sets the share of entries whose gate is at most half
    open.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> SigmoidGate(0.5, temperature=0.1)(torch.tensor([0.0, 0.5]))
        tensor([0.0000, 0.2500])
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
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

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return sigmoid_gate(
            x,
            self.threshold(x),
            self.temperature,
            sides=self.sides,
            mask=mask,
            zero_other=self.zero_other,
        )

    def extra_repr(self) -> str:
        """λ, where the gate acts and its temperature."""
        return super().extra_repr() + f", temperature={self.temperature:g}"
