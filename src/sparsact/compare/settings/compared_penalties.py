"""The penalties that a comparison can add to the loss, declared once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sparsact._common.errors import InputError, unknown
from sparsact.penalties import L1, L2, ElasticNet, Penalty


@dataclass(frozen=True)
class PenaltyKind:
    """How a penalty of one kind is built.

    Attributes:
        help: what it adds to the loss, in a few words.
        build: takes the coefficient.
    """

    help: str
    build: Callable[[float], Penalty]


PENALTIES = {
    "l1": PenaltyKind("sum of magnitudes", L1),
    "l2": PenaltyKind("sum of squares", L2),
    "elastic_net": PenaltyKind("a mixture of both", ElasticNet),
}


@dataclass(frozen=True)
class Strength:
    """A kind of penalty and its coefficient.

    Attributes:
        kind: a name of :data:`PENALTIES`, or that of the user's penalty.
        value: the coefficient.
        own: the user's penalty, with any coefficient.
    """

    kind: str
    value: float
    own: Penalty | None = field(default=None, compare=False, repr=False)

    def build(self) -> Penalty:
        """The penalty itself."""
        if self.own is not None:
            coefficient: Any = {fields(self.own)[0].name: self.value}  # type: ignore[arg-type]
            return replace(self.own, **coefficient)  # type: ignore[type-var]
        return PENALTIES[self.kind].build(self.value)


def parse_strength(argument: str, text: str | Penalty | None) -> Strength | None:
    """Read ``kind=value``, such as ``l1=1e-4``.

    Args:
        argument: name of the argument that holds `text`, for error messages.
        text: what to read; a penalty is taken as it is, and None gives None.

    Raises:
        InputError: the kind is unknown or the value is not a positive number.
    """
    if text is None:
        return None
    if isinstance(text, Penalty):
        value: Any = getattr(text, fields(text)[0].name)  # type: ignore[arg-type]
        if callable(value):
            raise InputError(f"{argument}= needs a coefficient that is a number, not a schedule")
        return Strength(type(text).__name__, parse_positive(argument, str(value)), text)
    kind, _, value = text.partition("=")
    if kind not in PENALTIES:
        raise unknown(f"{argument}= kind", kind, PENALTIES)
    return Strength(kind, parse_positive(argument, value))


def parse_positive(argument: str, text: str) -> float:
    """Read a positive, finite number.

    Raises:
        InputError: `text` is something else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{argument}= needs a positive number, got {text!r}")
    return value
