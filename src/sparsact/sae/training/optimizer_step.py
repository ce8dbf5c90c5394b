"""The step of the optimizer: clipped, on the sphere, at the scheduled learning rate."""

import math
from typing import Any

from sparsact.sae.geometry import normalize_rows_, remove_parallel_
from sparsact.sae.sae_config import SAETrainConfig
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.training.sharding import own_rows, unsharded


def move_(
    accelerator: Any,
    optimizer: Any,
    sae: SparseAutoencoder,
    config: SAETrainConfig,
    lr_factor: float,
) -> tuple[float, float]:
    """Clip the gradient and take the step; skip it if the gradient is not finite.

    The learning rate of the optimizer, which a scheduler may have set, is multiplied during the
    step only, so that a scheduler finds the value it left.

    Returns:
        the norm of the gradient before clipping, and the learning rate of the step.
    """
    weight = sae.W_dec
    assert weight.grad is not None
    remove_parallel_(own_rows(weight.grad), own_rows(weight))
    limit = config.clip_grad_norm
    norm = float(unsharded(accelerator.clip_grad_norm_(sae.parameters(), limit)))
    rates = [group["lr"] for group in optimizer.param_groups]
    if math.isfinite(norm):
        _set_rates(optimizer, [rate * lr_factor for rate in rates])
        try:
            optimizer.step()
        finally:
            _set_rates(optimizer, rates)
        normalize_rows_(own_rows(weight))
    optimizer.zero_grad()
    return norm, float(rates[0] * lr_factor)


def restore_rates_(optimizer: Any, lr: float, saved_lr: float | None) -> None:
    """Apply the learning rate of the settings to an optimizer whose state was loaded.

    Args:
        optimizer: its groups have the learning rates of the checkpoint.
        lr: that of the settings now.
        saved_lr: that of the settings of the checkpoint. A scheduler's factor on it is kept. None
            for a checkpoint of version 0.1, whose groups include the factor of the warm-up.
    """
    for group in optimizer.param_groups:
        if saved_lr is None:
            group["lr"] = lr
        elif saved_lr != lr:
            for name in {"lr", "initial_lr"} & group.keys():
                group[name] *= lr / saved_lr


def _set_rates(optimizer: Any, rates: list[float]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
