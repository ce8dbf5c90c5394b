"""The gate of a gated autoencoder: which latents are active, and how strongly, apart."""

import torch
from torch import Tensor, nn


class GatedReLU(nn.Module):
    """``1[p > 0]·relu(exp(r)·p + b)`` for pre-activations p, with r and b per latent.

    The gate decides, the second factor measures: a penalty on the gate does not shrink the
    values. With r = b = 0 it is relu.

    Args:
        d_sae: number of latents.

    Shape:
        (…, d_sae), returned unchanged.

    Gradient:
        exact for the values; the gate itself has none (it learns by the penalty on relu(p) and
        by reconstructing with it).

    Example:
        >>> GatedReLU(2)(torch.tensor([[-1.0, 2.0]])).tolist()
        [[0.0, 2.0]]

    Source:
        Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse Autoencoders"
        (2024), eqs. 6-8; there the magnitude's bias stands before the gate's is added:
        b = b_mag − exp(r)·b_gate.
    """

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(d_sae))
        self.bias = nn.Parameter(torch.zeros(d_sae))

    def forward(self, pre: Tensor) -> Tensor:
        """The latents for pre-activations `pre`."""
        return _gated(pre, self.log_scale.exp(), self.bias)

    def threshold(self) -> Tensor:
        """(d_sae,): what a pre-activation has to exceed for its latent to be active."""
        return (-self.bias / self.log_scale.exp()).clamp(min=0)

    def at(self, pre: Tensor, columns: Tensor) -> Tensor:
        """The values of the latents `columns` for their pre-activations, both (entries,)."""
        return _gated(pre, self.log_scale.exp()[columns], self.bias[columns])


def _gated(pre: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return torch.where(pre <= 0, torch.zeros_like(pre), torch.relu(scale * pre + bias))
