"""Selection of the k·B largest entries of a batch: function and module."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.processes import several_processes
from sparsact.thresholds.arguments import as_integer, check_input
from sparsact.thresholds.complex_modulus import is_complex
from sparsact.thresholds.hardshrink import hardshrink
from sparsact.thresholds.jumprelu import jumprelu
from sparsact.thresholds.topk import By, check_selection, entries_kept, ranked, select
from sparsact.thresholds.tracing import Unscriptable, leaf, one_node


@one_node
def batch_topk(
    x: Tensor,
    k: int | float,
    dim: int = -1,
    *,
    by: By = "value",
    mask: Tensor | None = None,
    zero_other: bool = False,
    joined: bool = False,
) -> Tensor:
    """Keep the k·B largest entries of a batch of B rows, set the others to zero.

    Args:
        x: any shape, floating point; complex with ``by="magnitude"``. `dim` holds the entries of
            a row; all other dims count rows, ``B = numel/size(dim)``.
        k: number of entries kept per row on average; with more than a row has, all are kept. A
            float in (0, 1) is the share of the entries of a row, at least one.
        dim: the dim that holds the entries of a row.
        by: ``"value"`` applies relu and keeps the largest values; ``"magnitude"`` keeps the
            largest ``|x|`` with their sign.
        mask: boolean, broadcasts to `x`; only entries where it is True compete. Only rows with
            such an entry count in B, so padding does not raise the number of entries kept.
        zero_other: entries outside `mask` become 0 instead of passing unchanged.
        joined: let the rows of all processes of ``torch.distributed`` compete as one batch. The
            processes then keep what a single process with all rows would keep. All processes
            must call this.

    Returns:
        a tensor of the shape and dtype of `x`. At most k·B entries are kept; if joined, entries
        equal to the smallest kept one are kept too. NaN stays NaN, and counts among them.

    Gradient:
        exact: ``∂x = 1`` on the kept entries (with ``by="value"`` on those above 0).

    Raises:
        TypeError: `x` is neither floating point nor complex, or k is neither an integer nor a
            share in (0, 1).
        ValueError: k is negative, or `by` is unknown.

    Example:
        >>> batch_topk(torch.tensor([[3.0, 5.0, 4.0], [1.0, 2.0, 0.5]]), 1)
        tensor([[0., 5., 4.],
                [0., 0., 0.]])

    Source:
        Bussmann et al., "BatchTopK Sparse Autoencoders" (2024), eq. 4.
    """
    if not is_complex(x):
        check_input(x, "batch_topk")
    per_row = entries_kept(check_selection(k, by), x.shape[dim] if x.ndim else 1)
    values, score = ranked(x, by, mask)
    rows = None if mask is None else mask.expand(x.shape).any(dim).sum()
    if joined and several_processes():
        keep = _largest_of_all_processes(
            score, per_row * (_rows(x, dim) if rows is None else int(rows))
        )
    elif rows is None:
        keep = _largest(score, per_row * _rows(x, dim))
    else:
        keep = _largest_by_rank(score, per_row * rows)
    return select(x, values, keep, mask, zero_other)


class BatchTopK(Unscriptable):
    """Keep the k·B largest entries of a batch; see :func:`sparsact.functional.batch_topk`.

    In training mode, the entries that a row keeps depend on the other rows of the batch. In eval
    mode they do not: entries above a fixed level pass and the others become 0. That level is the
    buffer ``running_threshold``, a running mean of the smallest positive entry kept in each
    training batch. Before the first training batch it is 0, which makes ``by="value"`` a relu.

    Args:
        k: number of entries kept per row on average. It, `dim` and `by` are those of the
            function.
        dim: the dim that holds the entries of a row.
        by: ``"value"`` (after relu) or ``"magnitude"``.
        momentum: the weight of a new batch in the running mean, as in ``nn.BatchNorm1d``. The
            first batch sets the mean.
        joined: in training mode, let the entries of all processes of ``torch.distributed``
            compete, as ``nn.SyncBatchNorm`` computes its statistics over all of them.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> layer = BatchTopK(1)
        >>> batch = torch.tensor([[3.0, 5.0, 4.0], [1.0, 2.0, 0.5]])
        >>> layer(batch)
        tensor([[0., 5., 4.],
                [0., 0., 0.]])
        >>> layer.eval()(torch.tensor([3.9, 4.1]))
        tensor([0.0000, 4.1000])

    Source:
        Bussmann et al., "BatchTopK Sparse Autoencoders" (2024), eqs. 4-5: the level is the mean
        over batches of the smallest positive activation kept.
    """

    running_threshold: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        k: int | float,
        dim: int = -1,
        *,
        by: By = "value",
        momentum: float = 0.01,
        joined: bool = False,
    ) -> None:
        super().__init__()
        self.k: Any = check_selection(k, by)  # an integer or a share
        if not 0 < momentum <= 1:
            raise InputError(f"momentum= must lie in (0, 1], got {momentum}")
        self.dim = as_integer(dim, "dim")
        self.by: By = by
        self.momentum = momentum
        self.joined = joined
        self.register_buffer("running_threshold", torch.zeros(()))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BatchTopK":
        before = self.running_threshold
        super()._apply(fn, recurse)
        if self.running_threshold.dtype.itemsize < before.dtype.itemsize:
            # in a narrower dtype, small steps of the mean would be rounded away
            self.running_threshold = before.to(self.running_threshold.device)
        return self

    @leaf
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True compete."""
        if not self.training:
            gate = jumprelu if self.by == "value" else hardshrink
            return gate(x, self.running_threshold, mask=mask)
        result = batch_topk(x, self.k, self.dim, by=self.by, mask=mask, joined=self.joined)
        if x.numel() or self.joined:
            self._track(result.detach() if mask is None else torch.where(mask, result.detach(), 0))
        return result

    @torch.no_grad()
    def _track(self, result: Tensor) -> None:
        """Move the running threshold towards the smallest entry kept, if there is one."""
        magnitude = result.abs().flatten().to(self.running_threshold)
        kept = torch.where(magnitude > 0, magnitude, torch.inf)
        smallest = kept.min() if len(kept) else kept.new_tensor(torch.inf)
        if self.joined and several_processes():
            dist.all_reduce(smallest, dist.ReduceOp.MIN)
        any_kept = smallest < torch.inf
        weight = torch.where(self.num_batches_tracked == 0, 1.0, self.momentum)
        moved = self.running_threshold.lerp(smallest, weight)
        self.running_threshold.copy_(torch.where(any_kept, moved, self.running_threshold))
        self.num_batches_tracked.add_(any_kept)

    def extra_repr(self) -> str:
        """k, the dim, the ranking and the momentum."""
        joined = ", joined=True" if self.joined else ""
        return f"k={self.k}, dim={self.dim}, by={self.by!r}, momentum={self.momentum:g}{joined}"


def _rows(x: Tensor, dim: int) -> int:
    size = x.shape[dim] if x.ndim else 1
    return x.numel() // max(size, 1)


def _largest(score: Tensor, count: int) -> Tensor:
    """True at the `count` largest scores."""
    flat = score.reshape(-1)
    chosen = flat.topk(min(count, flat.numel()), sorted=False).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter(0, chosen, 1).reshape(score.shape)


def _largest_by_rank(score: Tensor, count: Tensor) -> Tensor:
    """Like :func:`_largest` for a count that depends on data, which needs a sort."""
    flat = score.reshape(-1)
    order = flat.argsort(descending=True)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=order.device))
    return (rank < count).reshape(score.shape)


def _largest_of_all_processes(score: Tensor, count: int) -> Tensor:
    """Like :func:`_largest` among the scores of all processes, whose counts are added."""
    total = torch.tensor(count, device=score.device)
    dist.all_reduce(total)
    if int(total) == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    candidates = score.reshape(-1).topk(min(int(total), score.numel())).values
    return score >= _level_reached_by(candidates.clamp(min=0), total)


def _level_reached_by(candidates: Tensor, total: Tensor) -> Tensor:
    """The largest level that `total` candidates of all processes reach, or 0.

    Non-negative floats are ordered like their bits read as integers, so the level is found byte by
    byte. For each byte, the processes add up 256 counts; they exchange nothing else.
    """
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[candidates.element_size()]
    ascending = candidates.flip(0).view(integer).long()
    level = torch.zeros((), dtype=torch.long, device=candidates.device)
    first = 8 * candidates.element_size() - 8
    for shift in range(first, -1, -8):
        # the sign bit of the first byte is 0
        byte = torch.arange(128 if shift == first else 256, device=level.device)
        edges = level + (byte << shift)
        counts = len(ascending) - torch.searchsorted(ascending, edges)
        dist.all_reduce(counts)
        level = edges[((counts >= total).sum() - 1).clamp(min=0)]
    return level.to(integer).view(candidates.dtype)
