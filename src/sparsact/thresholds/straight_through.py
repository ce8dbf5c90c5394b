"""The pseudo-derivative of a step, for thresholds whose true gradient is zero."""

from typing import Literal, get_args

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import check_positive

Kernel = Literal["rectangle", "triangle", "sigmoid"]


def check_window(bandwidth: float, kernel: str = "rectangle") -> None:
    """Raise unless `bandwidth` is positive and finite, and `kernel` is the name of a window."""
    check_positive(bandwidth, "bandwidth")
    if kernel not in get_args(Kernel):
        raise InputError(f"kernel= must be one of {get_args(Kernel)}, got {kernel!r}")


def window(distance: Tensor, bandwidth: float, kernel: Kernel = "rectangle") -> Tensor:
    """The window K_ε(d): symmetric, with area 1 and, for every kernel, height 1/ε at d = 0.

    ``"rectangle"``: ``1[|d| < ε/2]/ε``, of full width ε.
    ``"triangle"``: ``max(1 − |d|/ε, 0)/ε``, of full width 2ε and half-height width ε.
    ``"sigmoid"``: ``(4/ε)·σ(4d/ε)·σ(−4d/ε)``, the derivative of ``σ(4d/ε)``. It is never 0, and
    its half-height width is 0.88ε.

    Args:
        distance: d, the distance to the threshold, float32 or float64.
        bandwidth: ε > 0.
        kernel: the shape of the window.

    Returns:
        a tensor of the shape and dtype of `distance`.

    Example:
        >>> distance = torch.tensor([0.0, 0.3, 0.6, 1.5])
        >>> window(distance, 1.0)
        tensor([1., 1., 0., 0.])
        >>> window(distance, 1.0, "triangle")
        tensor([1.0000, 0.7000, 0.4000, 0.0000])
        >>> window(distance, 1.0, "sigmoid")
        tensor([1.0000, 0.7116, 0.3050, 0.0099])
    """
    if kernel == "rectangle":
        return (distance.abs() < bandwidth / 2).to(distance.dtype) / bandwidth
    if kernel == "triangle":
        return (1 - distance.abs() / bandwidth).clamp(min=0) / bandwidth
    scaled = distance * (4 / bandwidth)
    return torch.sigmoid(scaled) * torch.sigmoid(-scaled) * (4 / bandwidth)


def zero_with_slope(level: float | Tensor, slope: Tensor) -> Tensor:
    """Zeros of the shape of `slope`, whose gradient with respect to `level` is `slope`.

    Added to a step, they give it a straight-through gradient without an autograd function. `slope`
    is a constant: second derivatives are 0.
    """
    if not isinstance(level, Tensor):
        return torch.zeros_like(slope)
    still = level.detach()
    return slope.detach() * torch.where(still.isfinite(), level - still, 0.0)


def window_text(learnable: bool, bandwidth: float, kernel: Kernel) -> str:
    """The window as the end of a module's repr; empty if λ is not learned."""
    return f", bandwidth={bandwidth:g}, kernel={kernel!r}" if learnable else ""
