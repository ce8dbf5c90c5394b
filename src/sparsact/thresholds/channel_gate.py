"""The base class of gates: one factor for each channel, some of them exactly 0."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import as_integer, check_input, widen
from sparsact.thresholds.complex_modulus import is_complex, scale
from sparsact.thresholds.tracing import Unscriptable, leaf


class ChannelGate(Unscriptable):
    """Abstract base: multiplies each channel by a gate ≥ 0, of which some are exactly 0.

    Gates of channels that are not needed close if ``coef·gate.expected_l0()`` is added to the loss,
    or if :class:`sparsact.TargetDensity` controls them.

    A channel is a feature, a unit, a head or, with one gate, a whole layer.

    Args:
        num_parameters: the number of channels, or 1 for one gate for all entries.
        channel_dim: the dim of the input that holds the channels. The default fits (…, features);
            use 1 for convolutions and for heads (batch, heads, …).

    Attributes:
        location: (num_parameters,), the parameter that decides how far each gate is open.
        closed_up_to: in evaluation a gate is 0 if its location is at most this.

    Raises:
        TypeError: at a forward, the input is neither floating point nor complex.
        ValueError: `num_parameters` is below 1. At a forward, the input does not have
            `num_parameters` channels at `channel_dim`.
    """

    closed_up_to: float = 0.0

    def __init__(self, num_parameters: int, channel_dim: int, location: float) -> None:
        super().__init__()
        self.num_parameters = as_integer(num_parameters, "num_parameters")
        if self.num_parameters < 1:
            raise InputError(f"num_parameters= must be at least 1, got {num_parameters}")
        self.channel_dim = as_integer(channel_dim, "channel_dim")
        self.location = nn.Parameter(torch.full((self.num_parameters,), location))

    @abstractmethod
    def gates(self) -> Tensor:
        """The gates of this forward, (num_parameters,)."""

    @abstractmethod
    def expected_l0(self) -> Tensor:
        """The expected number of open gates in training: a scalar with a gradient."""

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


@torch.no_grad()
def open_gates_(gates: list[ChannelGate], count: int) -> None:
    """Leave `count` gates of all open in evaluation, by one shift of all locations if needed.

    Args:
        gates: changed in place; each keeps the order of its gates.
        count: from 0 to the number of all gates.
    """
    margins = torch.cat([(gate.location - gate.closed_up_to).cpu().double() for gate in gates])
    ordered = margins.sort(descending=True).values
    above = float(ordered[count - 1]) if count > 0 else float(ordered[0]) + 1.0
    below = float(ordered[count]) if count < len(ordered) else above - 1.0
    if not above > 0 >= below or count == 0:
        for gate in gates:
            gate.location.sub_((above + below) / 2)
