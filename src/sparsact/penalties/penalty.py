"""What a penalty is."""

import math
from abc import ABC, abstractmethod

from torch import Tensor


class Penalty(ABC):
    """A function of a tensor that is summed over its entries, and its proximal operator.

    How the sum is averaged is the business of what hangs the penalty on a model. A penalty is a
    frozen dataclass whose first field is the coefficient that scales its value.
    """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar, in float32 (float64 for float64 input)."""

    def prox(self, x: Tensor, step: float) -> Tensor:
        """``argmin_u ½‖u − x‖² + step·penalty(u)``, of the shape and dtype of `x`.

        Raises:
            NotImplementedError: it has no closed form for this penalty.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no proximal operator in closed form; add the penalty to "
            "the loss instead"
        )


def has_prox(penalty: Penalty) -> bool:
    """Whether the class of `penalty` defines a proximal operator."""
    return type(penalty).prox is not Penalty.prox


def check_coefficient(value: float, name: str) -> None:
    """Raise unless `value` is finite and not negative."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def check_share(value: float, name: str) -> None:
    """Raise unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
