"""Reaching a target number of active latents."""

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.sae.kinds import SparsityTerm
from sparsact.sae.sae_model import SparseAutoencoder


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
            f"target_l0={target:g} and k={config.k} disagree: {config.activation} keeps k latents, "
            "so set only k="
        )
    if target > config.d_sae:
        raise InputError(f"target_l0={target:g} exceeds d_sae={config.d_sae}")
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
