"""Reaching a chosen number of active latents, whatever the kind."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsact.nn.gate import JumpReLU
from sparsact.nn.select import BatchTopK, TopK
from sparsact.nn.shrink import Softshrink
from sparsact.sae.model import SparseAutoencoder


@dataclass
class CoefficientController:
    """Moves a penalty's coefficient so that the mean number of active latents nears a target.

    An integral controller on the logarithm: each step multiplies the coefficient by
    ``exp(rate·log(l0/target))``, the error cut to ±1, plus a proportional part that does not
    accumulate, so that a target which is passed quickly is not overshot.

    Attributes:
        coefficient: the integral part.
        target: of l0, or None to leave the coefficient alone.
        rate: of the integral part, per step.
        gain: of the proportional part.
        smoothed: running mean of log l0.

    Example:
        >>> control = CoefficientController(1e-3, target=10.0)
        >>> control.update(20.0)
        >>> control.value > 1e-3
        True
    """

    coefficient: float
    target: float | None
    rate: float = 0.03
    gain: float = 2.0
    smoothed: float | None = None

    @property
    def value(self) -> float:
        """The coefficient of the next step."""
        return self.coefficient * math.exp(self.gain * self._error())

    def update(self, l0: float) -> None:
        """Take in the mean number of active latents of a step."""
        if self.target is None:
            return
        seen = math.log(max(l0, 1e-3))
        self.smoothed = seen if self.smoothed is None else 0.9 * self.smoothed + 0.1 * seen
        self.coefficient *= math.exp(self.rate * self._error())

    def _error(self) -> float:
        if self.target is None or self.smoothed is None:
            return 0.0
        return max(-1.0, min(1.0, self.smoothed - math.log(self.target)))


@torch.no_grad()
def set_l0_(sae: SparseAutoencoder, pre: Tensor, target: float) -> None:
    """Shift the thresholds so that `target` latents of each input are active on average.

    One shift for all latents: of a ReLU's or a gate's bias, of the learned thresholds (not below
    0), of the running threshold of a batch top-k; a top-k takes the nearest k.

    Args:
        sae: changed in place.
        pre: (n, d_sae): pre-activations of held-out inputs, in the scale of training.
        target: mean number of active latents, at most d_sae.

    Raises:
        TypeError: the threshold module is not of a known kind.
    """
    activation = sae.activation
    if isinstance(activation, TopK):
        activation.k = round(target)
    elif isinstance(activation, BatchTopK):
        activation.running_threshold.copy_(level_for(pre, target).clamp(min=0))
    elif isinstance(activation, JumpReLU):
        _raise_levels_(activation, level_for(pre - activation.threshold(pre), target))
    elif isinstance(activation, Softshrink):
        _raise_levels_(activation, level_for(pre.abs() - activation.threshold(pre), target))
    elif sae.config.activation in ("relu", "gated"):
        sae.encoder.bias.sub_(level_for(pre, target))
    else:
        raise TypeError(
            f"a target L0 needs one of the known kinds, not {type(activation).__name__}"
        )


def level_for(score: Tensor, target: float) -> Tensor:
    """What `target` entries of each row exceed on average."""
    entries = score.flatten().float()
    number = min(max(round(target * len(score)), 1), entries.numel() - 1)
    return entries.kthvalue(entries.numel() - number).values


def _raise_levels_(activation: nn.Module, shift: Tensor) -> None:
    level = activation.lambd
    assert isinstance(level, Tensor)
    level.copy_((level.abs() + shift).clamp(min=0))
