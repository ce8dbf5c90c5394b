"""Softplus as a module."""

import torch
from torch import Tensor, nn

from sparsact._thresholds.smooth import softplus


class Softplus(nn.Module):
    """Softplus as a module; see :func:`sparsact.functional.softplus`.

    Args:
        beta: the (initial) sharpness β > 0.
        threshold: accepted as in ``torch.nn.Softplus``, and not needed by this form.
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
            raise ValueError(f"beta must be positive and finite, got {beta}")
        self.learnable = learnable
        self.beta = nn.Parameter(torch.full((1,), float(beta))) if learnable else float(beta)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to `x`."""
        beta = self.beta.abs().reshape(()) if isinstance(self.beta, Tensor) else self.beta
        return softplus(x, beta)

    def extra_repr(self) -> str:
        """β and how it is held."""
        level = float(self.beta.detach()) if isinstance(self.beta, Tensor) else self.beta
        return f"beta={level:.4g}" + (", learnable=True" if self.learnable else "")
