"""What a penalty is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from sparsact.penalties.mask import keep

Coefficient = float | Callable[[int], float]
"""A number, or a callable from the step of training to a number."""

P = TypeVar("P", bound="Penalty")


class Penalty(ABC):
    """A function of a tensor that is summed over its entries, and its proximal operator.

    How the sum is averaged is the business of what hangs the penalty on a model. A penalty is a
    frozen dataclass whose first field is the coefficient that scales its value; where that is a
    schedule, :meth:`at` gives the penalty of one step.

    Attributes:
        zero_is_free: entries that are 0 add nothing, so that padding may be set to 0.
    """

    zero_is_free: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar, in float32 (float64 for float64 input)."""

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """The penalty on the positions of `x` that a mask over its leading dims keeps."""
        return self(keep(x, mask, self.zero_is_free))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """``argmin_u ½‖u − x‖² + step·penalty(u)``, of the shape and dtype of `x`.

        With a `step` of the shape of `x` it is ``argmin_u Σ ½(u − x)²/step + penalty(u)``: the
        prox in the metric of an optimizer that has a step size per entry.

        Raises:
            NotImplementedError: it has no closed form for this penalty.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no proximal operator in closed form; add the penalty to "
            "the loss instead"
        )

    @property
    def coefficient(self) -> Coefficient:
        """The coefficient: a number or a schedule."""
        value: Coefficient = getattr(self, _coefficient_name(self))
        return value

    def at(self: P, step: int) -> P:
        """The penalty with its coefficient at `step`."""
        value = self.coefficient
        return self.with_coefficient(value(step)) if callable(value) else self

    def with_coefficient(self: P, value: Coefficient) -> P:
        """The same penalty with another coefficient."""
        anything: Any = self
        changed: P = replace(anything, **{_coefficient_name(self): value})
        return changed


def number(coefficient: Coefficient) -> float:
    """A coefficient that must not be a schedule here."""
    if callable(coefficient):
        raise TypeError(
            "the coefficient is a schedule: take the penalty of one step, penalty.at(step)"
        )
    return coefficient


def has_prox(penalty: Penalty) -> bool:
    """Whether the class of `penalty` defines a proximal operator."""
    return type(penalty).prox is not Penalty.prox


def check_coefficient(value: Coefficient, name: str) -> None:
    """Raise unless `value` is a schedule, or a number that is finite and not negative."""
    if not callable(value) and not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def check_share(value: float, name: str) -> None:
    """Raise unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _coefficient_name(penalty: Any) -> str:
    return fields(penalty)[0].name
