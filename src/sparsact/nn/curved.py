"""Modules of the shrinkages that return to the identity along a curve."""

from torch import Tensor

from sparsact._thresholds.curved import garrote, halfshrink
from sparsact.nn.threshold import BandModule


class Garrote(BandModule):
    """Non-negative garrote as a module; see :func:`sparsact.functional.garrote`.

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
        >>> Garrote(1.0)(torch.tensor([-2.0, 0.2]))
        tensor([-1.5000,  0.0000])
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return garrote(
            x, self.threshold(x), sides=self.sides, mask=mask, zero_other=self.zero_other
        )


class Halfshrink(BandModule):
    """Half shrinkage as a module; see :func:`sparsact.functional.halfshrink`.

    Args:
        lambd: the (initial) cut-off λ ≥ 0.
        learnable: make λ a parameter; its gradient is exact.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Halfshrink(1.0)(torch.tensor([-3.0, 1.0]))
        tensor([-2.8385,  0.0000])
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        return halfshrink(
            x, self.threshold(x), sides=self.sides, mask=mask, zero_other=self.zero_other
        )
