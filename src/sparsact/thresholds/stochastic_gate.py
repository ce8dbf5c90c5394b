"""The base class of gates that are random in training and fixed in evaluation."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_input, widen
from sparsact.thresholds.complex_modulus import is_complex, scale
from sparsact.thresholds.tracing import Unscriptable, leaf


class StochasticGate(Unscriptable):
    """Abstract base: multiplies each channel by a gate in [0, 1], of which some are exactly 0.

    In training each forward draws new gates, one per channel, the same for all samples. In
    evaluation the gates are fixed. Gates of channels that are not needed close if
    ``coef·gate.expected_l0()`` is added to the loss.

    A channel is a feature, a unit, a head or, with one gate, a whole layer.

    Args:
        num_parameters: the number of channels, or 1 for one gate for all entries.
        channel_dim: the dim of the input that holds the channels. The default fits (…, features);
            use 1 for convolutions and for heads (batch, heads, …).

    Raises:
        TypeError: at a forward, the input is neither floating point nor complex.
        ValueError: `num_parameters` is below 1. At a forward, the input does not have
            `num_parameters` channels at `channel_dim`.
    """

    def __init__(self, num_parameters: int, channel_dim: int, location: float) -> None:
        super().__init__()
        self.num_parameters = as_integer(num_parameters, "num_parameters")
        if self.num_parameters < 1:
            raise InputError(f"num_parameters= must be at least 1, got {num_parameters}")
        self.channel_dim = as_integer(channel_dim, "channel_dim")
        self.location = nn.Parameter(torch.full((self.num_parameters,), location))

    @abstractmethod
    def gates(self) -> Tensor:
        """The gates, (num_parameters,): a new draw in training, the fixed gates in evaluation."""

    @abstractmethod
    def open_probabilities(self) -> Tensor:
        """The probability of each gate not to be 0 in training, (num_parameters,)."""

    def expected_l0(self) -> Tensor:
        """The expected number of open gates: a scalar with an exact gradient."""
        return self.open_probabilities().sum()

    @leaf
    def forward(self, x: Tensor) -> Tensor:
        """`x` times the gates of its channels; complex entries keep their phase."""
        if not is_complex(x):
            check_input(x, type(self).__name__)
        gates = widen(self.gates()).reshape(self._gate_shape(x))
        if x.is_complex():
            return scale(x, gates.to(x.real.dtype))
        return (widen(x) * gates.to(widen(x).dtype)).to(x.dtype)

    def _gate_shape(self, x: Tensor) -> list[int]:
        n, dim = self.num_parameters, self.channel_dim
        if n == 1:
            return [1] * x.ndim
        if not -x.ndim <= dim < x.ndim or x.shape[dim] != n:
            raise InputError(
                f"num_parameters={n} does not fit dim {dim} of the input of shape {tuple(x.shape)}"
            )
        shape = [1] * x.ndim
        shape[dim] = n
        return shape

    def extra_repr(self) -> str:
        """The number of gates and their dim."""
        return f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}"


def check_open(value: float) -> None:
    """Raise unless the probability `value` lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"open_probability= must lie strictly between 0 and 1, got {value}")
