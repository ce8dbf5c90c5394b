"""The penalties that a comparison can add to the loss, declared once."""

import math
from collections.abc import Callable
from dataclasses import dataclass

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
    """A kind of penalty and its coefficient."""

    kind: str
    value: float

    def build(self) -> Penalty:
        """The penalty itself."""
        return PENALTIES[self.kind].build(self.value)


def parse_strength(argument: str, text: str | None) -> Strength | None:
    """Read ``kind=value``, such as ``l1=1e-4``.

    Args:
        argument: name of the argument that holds `text`, for error messages.
        text: what to read; None gives None.

    Raises:
        InputError: the kind is unknown or the value is not a positive number.
    """
    if text is None:
        return None
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
