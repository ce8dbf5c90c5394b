"""Clipping as a module."""

from torch import Tensor

from sparsact._thresholds.clip import clip
from sparsact.nn.threshold import ThresholdModule


class Clip(ThresholdModule):
    """Clip to ``[−λ, λ]``, or to ``[lo, λ]``; see :func:`sparsact.functional.clip`.

    Args:
        lambd: the (initial) upper bound λ ≥ 0.
        learnable: make λ a parameter; its gradient is exact.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        lo: a fixed lower bound instead of −λ. ``Clip(6.0, learnable=True, lo=0.0)`` is PACT.

    There is no ``init_from``: clipping has no dead band of which a share could be asked.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> Clip(1.0)(torch.tensor([-3.0, 0.2]))
        tensor([-1.0000,  0.2000])
    """

    def __init__(
        self,
        lambd: float | Tensor = 1.0,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        lo: float | None = None,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim)
        self.lo = lo

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`, where `mask` is True if there is one."""
        if self.lo is None:
            return clip(x, self.threshold(x), mask=mask)
        return clip(x, lo=self.lo, hi=self.threshold(x), mask=mask)

    def extra_repr(self) -> str:
        """λ, and the lower bound if it is not −λ."""
        floor = "" if self.lo is None else f", lo={self.lo:g}"
        return super().extra_repr() + floor
