"""The known kinds of autoencoder: the threshold module of each, and the penalty that drives it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sparsact.kernels import Entries
from sparsact.nn import BatchTopK, JumpReLU, Softshrink, ThresholdModule, TopK
from sparsact.penalties import L0, L1, L2, ElasticNet, LogSum, Penalty
from sparsact.sae.config import SAEConfig
from sparsact.sae.gated import GatedReLU

_ACTIVATIONS: dict[str, Callable[[SAEConfig], nn.Module]] = {
    "relu": lambda config: nn.ReLU(),
    "topk": lambda config: TopK(config.k),
    "batch_topk": lambda config: BatchTopK(config.k),
    "jumprelu": lambda config: JumpReLU(
        0.1, True, config.d_sae, channel_dim=-1, bandwidth=config.bandwidth
    ),
    "softshrink": lambda config: Softshrink(0.1, True, config.d_sae, channel_dim=-1),
    "gated": lambda config: GatedReLU(config.d_sae),
}


@dataclass(frozen=True)
class SparsityTerm:
    """A penalty and what it is put on.

    Attributes:
        penalty: of coefficient 1; training multiplies it by its own, which may move.
        on: the ``"latents"``, the pre-activations (``"input"`` of the threshold module), or the
            ``"gate"``: the positive part of the pre-activations.
    """

    penalty: Penalty
    on: Literal["latents", "input", "gate"] = "latents"

    def __call__(self, pre: Tensor | Entries, latents: Tensor | Entries) -> Tensor:
        """The penalty on a batch, summed: a scalar.

        Args:
            pre: pre-activations (batch, d_sae), or, where :attr:`counts_entries`, those that
                the threshold passes or learns from.
            latents: likewise.
        """
        found = latents if self.on == "latents" else pre
        if isinstance(found, Entries):
            return self._of_entries(found)
        return self.penalty(found.relu() if self.on == "gate" else found)

    @property
    def counts_entries(self) -> bool:
        """Whether the entries that the threshold passes or learns from are all that counts."""
        if self.on == "input":
            return self._own_level() is not None
        return isinstance(self.penalty, (L1, L2, ElasticNet, LogSum))

    def _of_entries(self, found: Entries) -> Tensor:
        values, module = found.values, self._own_level()
        if isinstance(self.penalty, L0) and module is not None:
            return self.penalty.at_level(values, levels_at(module, found.columns))
        return self.penalty(values.relu() if self.on == "gate" else values)

    def _own_level(self) -> JumpReLU | None:
        """The module whose jumps an L0 penalty counts, through the module's own window."""
        penalty = self.penalty
        if isinstance(penalty, L0) and isinstance(penalty.threshold, JumpReLU):
            return penalty.threshold if penalty.bandwidth is None else None
        return None


def levels(module: ThresholdModule) -> float | Tensor:
    """The magnitude of the latents' thresholds: one, or (d_sae,)."""
    level = module.threshold(torch.empty(0, module.num_parameters))
    return level.flatten() if isinstance(level, Tensor) and level.ndim else level


def levels_at(module: ThresholdModule, columns: Tensor) -> float | Tensor:
    """The thresholds of the latents `columns` (entries,)."""
    level = levels(module)
    return level[columns] if isinstance(level, Tensor) and level.ndim else level


def make_activation(config: SAEConfig) -> nn.Module:
    """The threshold module of a preset.

    Raises:
        ValueError: the kind is ``"custom"``, whose module is the caller's to give.
    """
    if config.activation == "custom":
        raise ValueError("activation='custom' needs the module: SparseAutoencoder(config, module)")
    return _ACTIVATIONS[config.activation](config)


def sparsity_term(config: SAEConfig, activation: nn.Module) -> SparsityTerm | None:
    """The penalty of a preset, or None where there is none."""
    if isinstance(activation, JumpReLU):
        return SparsityTerm(L0(1.0, threshold=activation), "input")
    if config.activation in ("relu", "softshrink"):
        return SparsityTerm(L1(1.0))
    if config.activation == "gated":
        return SparsityTerm(L1(1.0), "gate")
    return None


@torch.no_grad()
def multiply_levels_(activation: nn.Module, factor: Tensor) -> bool:
    """Make a threshold module act on inputs times `factor` as it did on the inputs.

    Args:
        activation: changed in place.
        factor: positive; a scalar, or (d_sae,) with one for each latent.

    Returns:
        whether that can be done. If not the module is left as it was: its levels are unknown, or
        it selects among latents of different factors.
    """
    if isinstance(activation, nn.ReLU):
        return True
    if isinstance(activation, (TopK, BatchTopK)):
        if factor.ndim == 0 and isinstance(activation, BatchTopK):
            activation.running_threshold.mul_(factor)
        return factor.ndim == 0
    level = activation.bias if isinstance(activation, GatedReLU) else learned_level(activation)
    if level is None or factor.numel() not in (1, level.numel()):
        return False
    level.mul_(factor)
    return True


def learned_level(activation: nn.Module) -> Tensor | None:
    """The thresholds that are saved with the weights; fixed ones are not."""
    if isinstance(activation, (JumpReLU, Softshrink)) and activation.learnable:
        return activation.lambd if isinstance(activation.lambd, Tensor) else None
    return None
