"""The hard concrete gate."""

import math

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import check_positive
from sparsact.thresholds.stochastic_gate import StochasticGate, check_open


class HardConcrete(StochasticGate):
    """A gate ``clamp(s·(ζ − γ) + γ, 0, 1)`` for each channel, s from a binary concrete law.

    ``s = σ((logit(u) + log α)/β)`` with u uniform in training, and ``s = σ(log α)`` in evaluation.
    The parameter ``location`` holds log α.

    Args:
        num_parameters: the number of channels, as in :class:`StochasticGate`.
        channel_dim: the dim of the channels.
        open_probability: the initial probability of a gate not to be 0, in (0, 1).
        temperature: β > 0; small values make gates nearly binary.
        stretch: γ < 0 and ζ > 1, the interval before clamping.

    Gradient:
        exact for the drawn noise (reparametrised), by autograd; 0 to the parameters where a gate
        is exactly 0 or 1. :meth:`expected_l0` is differentiated exactly.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> gate = HardConcrete(3, open_probability=0.99).eval()
        >>> gate(torch.tensor([[1.0, -2.0, 3.0]]))
        tensor([[ 1., -2.,  3.]], grad_fn=<MulBackward0>)
        >>> gate.expected_l0()
        tensor(2.9700, grad_fn=<SumBackward0>)

    Source:
        Louizos, Welling & Kingma, "Learning sparse neural networks through L0 regularization"
        (2018), eq. 10 to 13, with their β, γ and ζ. Gates are drawn per forward, as there.
    """

    def __init__(
        self,
        num_parameters: int,
        channel_dim: int = -1,
        *,
        open_probability: float = 0.9,
        temperature: float = 2 / 3,
        stretch: tuple[float, float] = (-0.1, 1.1),
    ) -> None:
        check_open(open_probability)
        check_positive(temperature, "temperature")
        low, high = stretch
        if not -math.inf < low < 0 or not 1 < high < math.inf:
            raise InputError(f"stretch= must reach from below 0 to above 1, got {stretch}")
        shift = temperature * math.log(-low / high)
        logit = math.log(open_probability / (1 - open_probability))
        super().__init__(num_parameters, channel_dim, logit + shift)
        self.temperature, self.stretch, self._shift = temperature, stretch, shift
        self.closed_up_to = math.log(-low / high)

    def gates(self) -> Tensor:
        """The gates, (num_parameters,): a new draw in training, the fixed gates in evaluation."""
        logits: Tensor = self.location
        if self.training:
            noise = torch.rand_like(logits).clamp(torch.finfo(logits.dtype).tiny, 1 - 2**-24)
            logits = (noise.logit() + logits) / self.temperature
        low, high = self.stretch
        return (torch.sigmoid(logits) * (high - low) + low).clamp(0, 1)

    def open_probabilities(self) -> Tensor:
        """``σ(log α − β·log(−γ/ζ))`` for each gate, (num_parameters,)."""
        return torch.sigmoid(self.location - self._shift)
