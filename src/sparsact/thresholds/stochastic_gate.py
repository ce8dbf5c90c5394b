"""The base class of gates that are random in training and fixed in evaluation."""

from abc import abstractmethod

from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.channel_gate import ChannelGate


class StochasticGate(ChannelGate):
    """Abstract base: multiplies each channel by a gate in [0, 1], of which some are exactly 0.

    In training each forward draws new gates, one per channel, the same for all samples. In
    evaluation the gates are fixed. Gates of channels that are not needed close if
    ``coef·gate.expected_l0()`` is added to the loss.

    Its arguments and errors are those of :class:`ChannelGate`.
    """

    @abstractmethod
    def gates(self) -> Tensor:
        """The gates, (num_parameters,): a new draw in training, the fixed gates in evaluation."""

    @abstractmethod
    def open_probabilities(self) -> Tensor:
        """The probability of each gate not to be 0 in training, (num_parameters,)."""

    def expected_l0(self) -> Tensor:
        """The expected number of open gates: a scalar with an exact gradient."""
        return self.open_probabilities().sum()


def check_open(value: float) -> None:
    """Raise unless the probability `value` lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"open_probability= must lie strictly between 0 and 1, got {value}")
