"""Reaching a chosen number of active latents, whatever the kind."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsact.nn import BatchTopK, JumpReLU, Softshrink, ThresholdModule, TopK
from sparsact.sae.gated import GatedReLU
from sparsact.sae.kinds import SparsityTerm, learned_level
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


def check_target(target: float | None, sae: SparseAutoencoder, term: SparsityTerm | None) -> None:
    """Raise for a mean number of active latents that training could not reach.

    Raises:
        TypeError: the levels of the threshold module are unknown, or fixed.
        ValueError: the kind has its k, there are fewer latents, or there is no penalty.
    """
    if target is None:
        return
    config, activation = sae.config, sae.activation
    known = isinstance(activation, (nn.ReLU, TopK, BatchTopK, GatedReLU))
    if not known and learned_level(activation) is None:
        raise TypeError(
            "a target L0 needs one of the known kinds, or a JumpReLU or Softshrink that learns its "
            f"level, not {activation}"
        )
    if config.selects and target != config.k:
        raise ValueError(
            f"target_l0={target} and k={config.k} disagree: {config.activation} keeps k latents, "
            "so set k"
        )
    if target > config.d_sae:
        raise ValueError(f"target_l0={target} exceeds d_sae={config.d_sae}")
    if term is None and not config.selects:
        raise ValueError("a target L0 is reached through a penalty, and there is none: give one")


@torch.no_grad()
def set_l0_(sae: SparseAutoencoder, pre: Tensor, target: float) -> None:
    """Shift the thresholds so that `target` latents of each input are active on average.

    One shift for all latents: of a ReLU's or a gate's bias, of the learned thresholds down to 0
    (below, of a JumpReLU's bias), of the running threshold of a batch top-k; a top-k takes the
    nearest k.

    Args:
        sae: changed in place; one that passes :func:`check_target`.
        pre: (n, d_sae): pre-activations of held-out inputs, in the scale of training.
        target: mean number of active latents, at most d_sae.

    """
    activation = sae.activation
    if isinstance(activation, TopK):
        activation.k = round(target)
    elif isinstance(activation, BatchTopK):
        activation.running_threshold.copy_(level_for(pre, target).clamp(min=0))
    elif isinstance(activation, JumpReLU):
        beyond = _raise_levels_(activation, level_for(pre - activation.threshold(pre), target))
        sae.encoder.bias.sub_(beyond)
    elif isinstance(activation, Softshrink):
        _raise_levels_(activation, level_for(pre.abs() - activation.threshold(pre), target))
    elif isinstance(activation, GatedReLU):
        sae.encoder.bias.sub_(level_for(pre - activation.threshold(), target))
    else:
        sae.encoder.bias.sub_(level_for(pre, target))


def level_for(score: Tensor, target: float) -> Tensor:
    """What `target` entries of each row exceed on average."""
    entries = score.flatten().float()
    number = min(max(round(target * len(score)), 1), entries.numel() - 1)
    return entries.kthvalue(entries.numel() - number).values.to(score.dtype)


def _raise_levels_(activation: ThresholdModule, shift: Tensor) -> Tensor:
    """Shift the thresholds; what of it would bring them below 0 is returned, (d_sae,)."""
    level = activation.lambd
    assert isinstance(level, Tensor)
    shifted = level.abs() + shift
    level.copy_(shifted.clamp(min=0))
    return shifted.clamp(max=0)
