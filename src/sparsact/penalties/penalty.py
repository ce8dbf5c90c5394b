"""What a penalty is."""

import math
from abc import ABC, abstractmethod

from torch import Tensor


class Penalty(ABC):
    """A function of a tensor that is summed over its entries, and its proximal operator.

    How the sum is averaged is the business of what hangs the penalty on a model.
    """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar, in float32 (float64 for float64 input)."""

    @abstractmethod
    def prox(self, x: Tensor, step: float) -> Tensor:
        """``argmin_u ½‖u − x‖² + step·penalty(u)``, of the shape and dtype of `x`."""


def check_coefficient(value: float, name: str) -> None:
    """Raise unless `value` is finite and not negative."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
