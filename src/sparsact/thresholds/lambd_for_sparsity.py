"""The λ that sets a given share of a sample to zero."""

import torch
from torch import Tensor

from sparsact._common.devices import widest_float
from sparsact._common.errors import InputError


def check_sparsity(sparsity: float) -> None:
    """Raise unless `sparsity` is a share in [0, 1)."""
    if not isinstance(sparsity, (int, float)) or isinstance(sparsity, bool):
        raise TypeError(f"sparsity= must be a number, got {type(sparsity).__name__}")
    if not 0 <= sparsity < 1:
        raise InputError(
            f"sparsity= is the share of zeros, in [0, 1), got {sparsity} "
            "(for 80% zeros use sparsity=0.8; 1 would leave no entry)"
        )


def lambd_for_sparsity(score: Tensor, counts: Tensor | None, sparsity: float) -> Tensor:
    """The smallest λ ≥ 0 such that the share `sparsity` of each column's scores is at most λ.

    Args:
        score: (entries, columns); an entry becomes zero if its score is at most λ.
        counts: boolean, of the same shape: the entries that count for the share; None for all.
        sparsity: the share, in [0, 1).

    Returns:
        (columns,): one of the scores of each column, so that exactly round(sparsity·entries)
        entries with distinct scores become zero. It is 0 if that number or the score is not
        positive.

    Example:
        >>> lambd_for_sparsity(torch.tensor([[0.1], [0.4], [0.2], [0.3]]), None, 0.5)
        tensor([0.2000])
    """
    if counts is None:
        entries = torch.full(score.shape[1:], len(score), device=score.device)
    else:
        entries = counts.sum(0)
        score = torch.where(counts, score, torch.inf)
    rank = (entries.to(widest_float(entries.device)) * sparsity).round().long()
    ordered = score.sort(0).values
    lambd = ordered.gather(0, (rank - 1).clamp(min=0)[None]).squeeze(0)
    return torch.where(rank > 0, lambd, 0.0).clamp(min=0)
