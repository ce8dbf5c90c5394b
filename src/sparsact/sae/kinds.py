"""The known kinds of autoencoder: the threshold module of each, and the penalty that drives it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sparsact.nn.gate import JumpReLU
from sparsact.nn.select import BatchTopK, TopK
from sparsact.nn.shrink import Softshrink
from sparsact.nn.threshold import ThresholdModule
from sparsact.penalties import L0, L1, Penalty
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

    def __call__(self, pre: Tensor, latents: Tensor) -> Tensor:
        """The penalty per input of the batch: a scalar."""
        found = {"latents": latents, "input": pre, "gate": pre.relu()}[self.on]
        return self.penalty(found) / max(len(found), 1)


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
def divide_levels_(activation: nn.Module, factor: float) -> bool:
    """Make a threshold module act on inputs divided by `factor` as it did on the inputs.

    Returns:
        whether the module is one whose levels are known; if not it is left as it was.
    """
    if isinstance(activation, (nn.ReLU, TopK)):
        return True
    if isinstance(activation, BatchTopK):
        activation.running_threshold.div_(factor)
        return True
    if isinstance(activation, GatedReLU):
        activation.bias.div_(factor)
        return True
    if isinstance(activation, (JumpReLU, Softshrink)):
        activation.lambd = _divided(activation, factor)
        return True
    return False


def _divided(activation: ThresholdModule, factor: float) -> float | Tensor:
    level = activation.lambd
    return level.div_(factor) if isinstance(level, Tensor) else level / factor
