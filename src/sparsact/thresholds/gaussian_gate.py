"""The Gaussian gate."""

import torch
from torch import Tensor

from sparsact.thresholds.arguments import check_positive
from sparsact.thresholds.stochastic_gate import StochasticGate, check_open


class GaussianGate(StochasticGate):
    """A gate ``clamp(μ + σε, 0, 1)`` for each channel, ε normal in training, 0 in evaluation.

    Its noise has lighter tails than that of :class:`HardConcrete`, which makes the selection of
    features more stable. The parameter ``location`` holds μ.

    Args:
        num_parameters: the number of channels, as in :class:`StochasticGate`.
        channel_dim: the dim of the channels.
        open_probability: the initial probability of a gate not to be 0, in (0, 1). The default is
            that of μ = 0.5.
        sigma: σ > 0, the width of the noise.

    Gradient:
        exact for the drawn noise (reparametrised), by autograd; 0 to the parameters where a gate
        is exactly 0 or 1. :meth:`expected_l0` is differentiated exactly.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> gate = GaussianGate(2).eval()
        >>> gate.gates()
        tensor([0.5000, 0.5000], grad_fn=<ClampBackward1>)

    Source:
        Yamada, Lindenbaum, Negahban & Kluger, "Feature selection using stochastic gates" (2020),
        eq. 6 and 7, with their σ = 0.5.
    """

    def __init__(
        self,
        num_parameters: int,
        channel_dim: int = -1,
        *,
        open_probability: float = 0.8413447460685429,
        sigma: float = 0.5,
    ) -> None:
        check_open(open_probability)
        check_positive(sigma, "sigma")
        quantile = torch.special.ndtri(torch.tensor(open_probability, dtype=torch.float64))
        super().__init__(num_parameters, channel_dim, sigma * float(quantile))
        self.sigma = sigma

    def gates(self) -> Tensor:
        """The gates, (num_parameters,): a new draw in training, the fixed gates in evaluation."""
        noise = self.sigma * torch.randn_like(self.location) if self.training else 0.0
        return (self.location + noise).clamp(0, 1)

    def open_probabilities(self) -> Tensor:
        """``Φ(μ/σ)`` for each gate, (num_parameters,)."""
        probabilities: Tensor = torch.special.ndtr(self.location / self.sigma)
        return probabilities
