"""The threshold at which a chosen share of a sample lies in the dead band."""

import torch
from torch import Tensor


def check_sparsity(sparsity: float) -> None:
    """Raise unless `sparsity` is a share in [0, 1)."""
    if not isinstance(sparsity, (int, float)) or isinstance(sparsity, bool):
        raise TypeError(f"sparsity must be a number, got {type(sparsity).__name__}")
    if not 0 <= sparsity < 1:
        raise ValueError(
            f"sparsity is the share of zeros, in [0, 1), got {sparsity} "
            "(80% zeros are sparsity=0.8; at 1 nothing would be left)"
        )


def level_for_sparsity(score: Tensor, counts: Tensor | None, sparsity: float) -> Tensor:
    """The smallest λ ≥ 0 with the share `sparsity` of the scores of each column at most λ.

    Args:
        score: (entries, columns); an entry lies in the closed dead band when its score is ≤ λ.
        counts: boolean, of the same shape: the entries of which a share is taken; None for all.
        sparsity: the share, in [0, 1).

    Returns:
        (columns,): one of the scores, so that exactly round(sparsity·entries) of distinct ones
        are dead; 0 where that number, or the score, is not positive.

    Example:
        >>> level_for_sparsity(torch.tensor([[0.1], [0.4], [0.2], [0.3]]), None, 0.5)
        tensor([0.2000])
    """
    if counts is None:
        number = torch.full(score.shape[1:], len(score), device=score.device)
    else:
        number = counts.sum(0)
        score = torch.where(counts, score, torch.inf)
    rank = (number.double() * sparsity).round().long()
    ordered = score.sort(0).values
    level = ordered.gather(0, (rank - 1).clamp(min=0)[None]).squeeze(0)
    return torch.where(rank > 0, level, 0.0).clamp(min=0)
