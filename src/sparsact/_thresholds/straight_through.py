"""The pseudo-derivative of a step, for thresholds whose true gradient is zero."""

import math

from torch import Tensor


def check_bandwidth(bandwidth: float) -> None:
    """Raise unless the bandwidth is positive and finite."""
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth must be positive and finite, got {bandwidth}")


def window(distance: Tensor, bandwidth: float) -> Tensor:
    """Rectangle of width ε and area 1: ``1[|d| < ε/2]/ε``, d the distance to the threshold."""
    return (distance.abs() < bandwidth / 2).to(distance.dtype) / bandwidth
