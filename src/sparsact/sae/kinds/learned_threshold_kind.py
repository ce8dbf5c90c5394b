"""What JumpReLU and soft shrinkage share: a learned threshold for each latent."""

from typing import TypeVar

import torch
from torch import Tensor

from sparsact.nn import ThresholdModule
from sparsact.sae.kinds.kind import Kind

Threshold = TypeVar("Threshold", bound=ThresholdModule)


class LearnedThresholdKind(Kind[Threshold]):
    """Abstract base: a kind whose module has learned thresholds, held as ``lambd``.

    The methods also accept modules with fixed thresholds, or with one for all latents.
    """

    def levels(self) -> float | Tensor:
        """The magnitude of the thresholds: a number or scalar, or (d_sae,)."""
        level = self.activation.threshold(torch.empty(0, self.activation.num_parameters))
        return level.flatten() if isinstance(level, Tensor) and level.ndim else level

    def levels_at(self, columns: Tensor) -> float | Tensor:
        """The thresholds of the latents `columns` (entries,)."""
        level = self.levels()
        return level[columns] if isinstance(level, Tensor) and level.ndim else level

    def learned_levels(self) -> Tensor | None:
        """The thresholds as they are saved with the weights, or None if they are fixed."""
        level = self.activation.lambd
        return level if self.activation.learnable and isinstance(level, Tensor) else None

    def can_set_l0(self) -> bool:
        """Fixed thresholds stay where they are."""
        return self.learned_levels() is not None

    def raise_levels_(self, shift: Tensor) -> Tensor:
        """Shift the thresholds, down to 0 at most.

        Returns:
            (d_sae,), the negative part of each threshold that this cut off.
        """
        level = self.learned_levels()
        assert level is not None
        shifted = level.abs() + shift
        level.copy_(shifted.clamp(min=0))
        return shifted.clamp(max=0)

    def let_pass_(self, latents: Tensor, pre: Tensor) -> None:
        """Set the thresholds to half the pre-activations."""
        level = self.learned_levels()
        if level is not None and len(level) > 1:
            level[latents] = pre / 2

    def rescale_(self, factor: Tensor) -> bool:
        """Fixed thresholds cannot be scaled: they are not saved with the weights."""
        level = self.learned_levels()
        if level is None or factor.numel() not in (1, level.numel()):
            return False
        level.mul_(factor)
        return True
