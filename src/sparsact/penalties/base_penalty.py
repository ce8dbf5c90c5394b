"""The base class of penalties, and checks on their arguments."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.penalties.padding_mask import without_padding
from sparsact.thresholds.arguments import check_number

Coefficient = float | Callable[[int], float]
"""A number, or a callable from the step of training to a number."""

P = TypeVar("P", bound="Penalty")


class Penalty(ABC):
    """A sum over the entries of a tensor, and its proximal operator.

    A penalty is a pure sum: ``ActivationPenalty`` and ``WeightPenalty`` attach it to a model and
    average it. A penalty is a frozen dataclass. Its first field is the coefficient that scales its
    value. If the coefficient is a schedule, :meth:`at` returns the penalty at one step.

    Attributes:
        zero_is_free: entries that are 0 add nothing, so padding may be set to 0.
        prox_is_entrywise: the prox moves each entry alone.
        is_magnitude_sum: it depends on magnitudes alone and grows with each, so the prox of the
            positive part is that of the penalty over values that are not negative.
    """

    zero_is_free: ClassVar[bool] = True
    prox_is_entrywise: ClassVar[bool] = True
    is_magnitude_sum: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The penalty on `x`: a scalar, in float32 (float64 for float64 input)."""

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """The penalty on the positions of `x` at which `mask`, over its leading dims, is True."""
        return self(without_padding(x, mask, self.zero_is_free))

    def prox(self, x: Tensor, step: float | Tensor) -> Tensor:
        """``argmin_u ½‖u − x‖² + step·penalty(u)``, of the shape and dtype of `x`.

        With a `step` of the shape of `x` it is ``argmin_u Σ ½(u − x)²/step + penalty(u)``. This is
        the proximal operator for optimizers that have one step size per entry. A complex `x` is
        shrunk by modulus. A complex `step` has one step size for each real and each imaginary
        part, as torch's Adam has.

        Raises:
            NotImplementedError: this penalty has no proximal operator in closed form.
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
        """The penalty with the value that its coefficient has at `step`."""
        value = self.coefficient
        return self.with_coefficient(value(step)) if callable(value) else self

    def with_coefficient(self: P, value: Coefficient) -> P:
        """The same penalty with another coefficient."""
        dataclass_instance: Any = self
        changed: P = replace(dataclass_instance, **{_coefficient_name(self): value})
        return changed


def fixed(coefficient: Coefficient) -> float:
    """Return the coefficient, or raise TypeError if it is a schedule."""
    if callable(coefficient):
        raise TypeError(
            "the coefficient is a schedule: use the penalty at one step, penalty.at(step)"
        )
    return coefficient


def has_prox(penalty: Penalty) -> bool:
    """Whether `penalty` has a proximal operator."""
    return type(penalty).prox is not Penalty.prox


def check_coefficient(value: Coefficient, name: str) -> None:
    """Raise unless `value` is a schedule, or a number that is finite and not negative."""
    if callable(value):
        return
    check_number(value, name)
    if not 0 <= value < math.inf:
        raise InputError(f"{name}= must be finite and not negative, got {value}")


def check_share(value: float, name: str) -> None:
    """Raise unless `value` lies in [0, 1]."""
    check_number(value, name)
    if not 0 <= value <= 1:
        raise InputError(f"{name}= must lie in [0, 1], got {value}")


def _coefficient_name(penalty: Any) -> str:
    return fields(penalty)[0].name
