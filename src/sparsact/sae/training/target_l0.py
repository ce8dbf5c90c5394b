"""Reaching a target number of active latents."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.kinds import SparsityTerm
from sparsact.sae.sae_model import SparseAutoencoder


@dataclass
class CoefficientController:
    """Adjusts a penalty's coefficient so that the mean number of active latents nears a target.

    An integral controller on the logarithm: each step multiplies the coefficient by
    ``exp(rate·log(l0/target))``, with the error clipped to ±1. A proportional part, which does
    not accumulate, keeps L0 from overshooting a target that it approaches quickly.

    Attributes:
        coefficient: the integral part.
        target: target of L0, or None to keep the coefficient fixed.
        rate: rate of the integral part, per step.
        gain: gain of the proportional part.
        smoothed: running mean of log L0.

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
        """Update the coefficient with the mean number of active latents of a step."""
        if self.target is None:
            return
        log_l0 = math.log(max(l0, 1e-3))
        self.smoothed = log_l0 if self.smoothed is None else 0.9 * self.smoothed + 0.1 * log_l0
        self.coefficient *= math.exp(self.rate * self._error())

    def _error(self) -> float:
        if self.target is None or self.smoothed is None:
            return 0.0
        return max(-1.0, min(1.0, self.smoothed - math.log(self.target)))


def check_target(target: float | None, sae: SparseAutoencoder, term: SparsityTerm | None) -> None:
    """Raise if training could not reach a mean number of active latents.

    Raises:
        TypeError: the thresholds of the module are unknown, or fixed.
        InputError: a ValueError: the kind has its k, there are fewer latents, or no penalty.
    """
    if target is None:
        return
    config = sae.config
    if not sae.kind.can_set_l0():
        raise TypeError(
            "target_l0= needs a known kind, or a JumpReLU or Softshrink whose thresholds are "
            f"learned, not {sae.activation}"
        )
    if config.selects and target != config.k:
        raise InputError(
            f"target_l0= and k= disagree, got target_l0={target} and k={config.k}: "
            f"{config.activation} keeps k latents, so set only k="
        )
    if target > config.d_sae:
        raise InputError(
            f"target_l0= exceeds the number of latents, got target_l0={target} and "
            f"d_sae={config.d_sae}"
        )
    if term is None and not config.selects:
        raise InputError("target_l0= needs a penalty, and this autoencoder has none: pass one")


@torch.no_grad()
def set_l0_(sae: SparseAutoencoder, pre: Tensor, target: float) -> None:
    """Shift the thresholds so that `target` latents of each input are active on average.

    All thresholds shift by one amount: for relu and gated kinds the bias; for learned thresholds
    the thresholds, down to 0 (below that, the bias of a JumpReLU); for batch_topk the running
    threshold. For topk, k is set to the nearest number.

    Args:
        sae: changed in place. It must pass :func:`check_target`.
        pre: (n, d_sae), pre-activations of held-out inputs, in the scale of training.
        target: mean number of active latents, at most d_sae.
    """
    sae.kind.set_l0_(pre, target, sae.encoder.bias)
