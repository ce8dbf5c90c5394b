"""Selection: a number of entries is kept instead of a level being set."""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from sparsact._thresholds.arguments import check_input, check_mask


def topk(
    x: Tensor,
    k: int,
    dim: int = -1,
    *,
    by: Literal["value", "magnitude"] = "value",
    mask: Tensor | None = None,
    zero_other: bool = False,
) -> Tensor:
    """Keep the k largest entries along `dim`, zero the rest.

    Args:
        x: any shape, floating point.
        k: number kept per row; more than the row holds keeps all of it.
        dim: the dim along which entries compete.
        by: ``"value"`` applies relu and keeps the k largest values (the meaning in sparse
            autoencoders; fewer than k entries are kept where fewer are positive);
            ``"magnitude"`` keeps the k largest ``|x|`` with their sign.
        mask: boolean, broadcasts to `x`; only entries where it is True compete.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.

    Returns:
        a tensor of the shape and dtype of `x`. Among equal entries at the edge the choice is
        that of ``torch.topk``; never more than k survive. NaN stays NaN, and counts among the k.

    Gradient:
        exact: ``∂x = 1`` on the kept entries (for ``by="value"`` those above 0).

    Raises:
        TypeError: `x` is not floating point, or k is not an integer.
        ValueError: k is negative, `by` is unknown.

    Example:
        >>> topk(torch.tensor([3.0, -5.0, 1.0, 2.0]), 2)
        tensor([3., 0., 0., 2.])
        >>> topk(torch.tensor([3.0, -5.0, 1.0, 2.0]), 2, by="magnitude")
        tensor([ 3., -5.,  0.,  0.])

    Source:
        Makhzani & Frey, "k-Sparse Autoencoders" (2014); Gao et al., "Scaling and evaluating
        sparse autoencoders" (2024), sec. 2.3.
    """
    check_input(x, "topk")
    check_k(k)
    kept = x.relu() if check_by(by) == "value" else x
    score = kept.detach().abs()
    if mask is not None:
        check_mask(mask, x)
        score = torch.where(mask, score, -1.0)
    size = x.shape[dim] if x.ndim else 1
    chosen = score.topk(min(k, size), dim=dim, sorted=False).indices
    keep = torch.zeros_like(x, dtype=torch.bool).scatter(dim, chosen, True)
    result = torch.where(x.isnan() | keep, kept, 0.0)  # isnan first: it has the strides of x
    if mask is None:
        return result
    return torch.where(mask, result, 0.0 if zero_other else x)


def batch_topk(
    x: Tensor,
    k: int,
    dim: int = -1,
    *,
    by: Literal["value", "magnitude"] = "value",
    mask: Tensor | None = None,
    zero_other: bool = False,
    joined: bool = False,
) -> Tensor:
    """Keep the k·B largest entries of the batch, zero the rest; B is the number of rows.

    Args:
        x: any shape, floating point; every dim but `dim` counts rows, ``B = numel/size(dim)``.
        k: number kept per row on average; more than a row holds keeps everything.
        dim: the dim along which a row lies.
        by: ``"value"`` applies relu and keeps the largest values; ``"magnitude"`` keeps the
            largest ``|x|`` with their sign.
        mask: boolean, broadcasts to `x`; only entries where it is True compete, and only rows
            with such an entry count in B, so that padding does not raise the number kept.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.
        joined: the batch is that of all processes of ``torch.distributed`` together, so that
            they keep what one process with all rows would; every process must call.

    Returns:
        a tensor of the shape and dtype of `x`, with at most k·B entries kept (if joined, all
        that equal the smallest kept are). NaN stays NaN, and counts among them.

    Gradient:
        exact: ``∂x = 1`` on the kept entries (for ``by="value"`` those above 0).

    Raises:
        TypeError: `x` is not floating point, or k is not an integer.
        ValueError: k is negative, `by` is unknown.

    Example:
        >>> batch_topk(torch.tensor([[3.0, 5.0, 4.0], [1.0, 2.0, 0.5]]), 1)
        tensor([[0., 5., 4.],
                [0., 0., 0.]])

    Source:
        Bussmann et al., "BatchTopK Sparse Autoencoders" (2024), eq. 4.
    """
    check_input(x, "batch_topk")
    check_k(k)
    kept = x.relu() if check_by(by) == "value" else x
    score = kept.detach().abs()
    rows: Tensor | None = None
    if mask is not None:
        check_mask(mask, x)
        rows = mask.expand(x.shape).any(dim).sum()
        score = torch.where(mask, score, -1.0)
    if joined and several_processes():
        keep = _largest_of_all(score, k * (_rows(x, dim) if rows is None else int(rows)))
    elif rows is None:
        keep = _largest(score, k * _rows(x, dim))
    else:
        keep = _largest_of(score, k * rows)
    result = torch.where(x.isnan() | keep, kept, 0.0)  # isnan first: it has the strides of x
    if mask is None:
        return result
    return torch.where(mask, result, 0.0 if zero_other else x)


def _rows(x: Tensor, dim: int) -> int:
    size = x.shape[dim] if x.ndim else 1
    return x.numel() // max(size, 1)


def _largest(score: Tensor, number: int) -> Tensor:
    flat = score.reshape(-1)
    chosen = flat.topk(min(number, flat.numel()), sorted=False).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter(0, chosen, True).reshape(score.shape)


def _largest_of(score: Tensor, number: Tensor) -> Tensor:
    """As :func:`_largest`, for a number that is itself data: by rank, which needs a sort."""
    flat = score.reshape(-1)
    order = flat.argsort(descending=True)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=order.device))
    return (rank < number).reshape(score.shape)


def _largest_of_all(score: Tensor, number: int) -> Tensor:
    """As :func:`_largest`, among the scores of all processes: `number` is summed over them."""
    wanted = torch.tensor(number, device=score.device)
    dist.all_reduce(wanted)
    if int(wanted) == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    candidates = score.reshape(-1).topk(min(int(wanted), score.numel())).values
    return score >= _level_of_all(candidates.clamp(min=0), wanted)


def _level_of_all(candidates: Tensor, wanted: Tensor) -> Tensor:
    """The largest level that `wanted` candidates of all processes reach, or 0.

    Numbers that are not negative are in the order of their bits, so the level is found by the
    byte: a count for each value of it is summed over the processes. Nothing else is sent.
    """
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[candidates.element_size()]
    ascending = candidates.flip(0).view(integer).long()
    level = torch.zeros((), dtype=torch.long, device=candidates.device)
    first = 8 * candidates.element_size() - 8
    for shift in range(first, -1, -8):
        byte = torch.arange(128 if shift == first else 256, device=level.device)  # the sign is 0
        edges = level + (byte << shift)
        counts = len(ascending) - torch.searchsorted(ascending, edges)
        dist.all_reduce(counts)
        level = edges[((counts >= wanted).sum() - 1).clamp(min=0)]
    return level.to(integer).view(candidates.dtype)


def several_processes() -> bool:
    """Whether this is one of several processes of ``torch.distributed``."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def check_k(k: object) -> None:
    """Raise unless `k` is a non-negative integer."""
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"k must be an integer, got {type(k).__name__}")
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")


def check_by(by: str) -> str:
    """Raise unless `by` names a way to rank entries."""
    if by not in ("value", "magnitude"):
        raise ValueError(f"by must be 'value' or 'magnitude', got {by!r}")
    return by
