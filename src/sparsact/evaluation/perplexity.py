"""Perplexity: how well a language model predicts a text."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsact.calibration.model_forward import unchanged
from sparsact.report.language.language_records import Estimate


def window_losses(
    model: nn.Module, windows: Tensor, step: Callable[[], None] = lambda: None
) -> Tensor:
    """The mean cross-entropy of the next token in each window, in nats.

    Args:
        model: a causal language model, on any device.
        windows: (windows, length) int64, on the same device.
        step: called after each window.

    Returns:
        (windows,) float64, on the CPU.
    """
    losses = []
    with unchanged(model), torch.inference_mode():
        for window in windows.split(1):
            logits = model(input_ids=window).logits[0, :-1].float()
            losses.append(float(cross_entropy(logits, window[0, 1:])))
            step()
    return torch.tensor(losses, dtype=torch.float64)


def perplexity(losses: Tensor) -> Estimate:
    """``exp(mean)`` with the standard error over windows, by the delta method.

    Example:
        >>> perplexity(torch.zeros(3))
        Estimate(value=1.0, error=0.0)
    """
    value = float(losses.mean().exp())
    if len(losses) < 2:
        return Estimate(value, None)
    return Estimate(value, value * float(losses.std()) / len(losses) ** 0.5)


def perplexity_ratio(losses: Tensor, dense: Tensor) -> Estimate:
    """The ratio of two perplexities, with its error from the differences in each window.

    Windows that are hard for one model are hard for the other, so the ratio is known much more
    precisely than either perplexity.
    """
    return perplexity(losses - dense)
