"""Selection modules."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparsact._thresholds.gate import jumprelu
from sparsact._thresholds.select import batch_topk, check_by, check_k, several_processes, topk
from sparsact._thresholds.shrink import hardshrink


class TopK(nn.Module):
    """Keep the k largest entries along a dim; see :func:`sparsact.functional.topk`.

    Args:
        k: number kept per row.
        dim: the dim along which entries compete.
        by: ``"value"`` (after relu) or ``"magnitude"``.

    Shape:
        any, returned unchanged.

    Example:
        >>> import torch
        >>> TopK(1)(torch.tensor([[1.0, 3.0], [2.0, -1.0]]))
        tensor([[0., 3.],
                [2., 0.]])
    """

    def __init__(
        self, k: int, dim: int = -1, *, by: Literal["value", "magnitude"] = "value"
    ) -> None:
        super().__init__()
        check_k(k)
        check_by(by)
        self.k = k
        self.dim = dim
        self.by: Literal["value", "magnitude"] = by

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the function to `x`; only entries where `mask` is True compete."""
        return topk(x, self.k, self.dim, by=self.by, mask=mask)

    def extra_repr(self) -> str:
        """k, the dim and the ranking."""
        return f"k={self.k}, dim={self.dim}, by={self.by!r}"


class BatchTopK(nn.Module):
    """Keep the k·B largest entries of a batch; see :func:`sparsact.functional.batch_topk`.

    What is kept then depends on the other rows of the batch. For use, a level that does not is
    wanted: in training mode the smallest entry kept (above 0) enters a running mean, the buffer
    ``running_threshold``; in eval mode the entries above that level pass, and the others
    become 0. Before any training batch the level is 0: by value this is relu.

    Args:
        k: number kept per row on average.
        dim: the dim along which a row lies.
        by: ``"value"`` (after relu) or ``"magnitude"``.
        momentum: weight of a new batch in the running mean, as in ``nn.BatchNorm1d``; the first
            batch sets it.
        joined: in training mode, let the entries of all processes of ``torch.distributed``
            compete, as ``nn.SyncBatchNorm`` takes its statistics over them.

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
        k: int,
        dim: int = -1,
        *,
        by: Literal["value", "magnitude"] = "value",
        momentum: float = 0.01,
        joined: bool = False,
    ) -> None:
        super().__init__()
        check_k(k)
        check_by(by)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie in (0, 1], got {momentum}")
        self.k = k
        self.dim = dim
        self.by: Literal["value", "magnitude"] = by
        self.momentum = momentum
        self.joined = joined
        self.register_buffer("running_threshold", torch.zeros(()))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BatchTopK":
        level = self.running_threshold
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.running_threshold.dtype.itemsize < level.dtype.itemsize:
            # small steps of the mean would round away in a narrower dtype
            self.running_threshold = level.to(self.running_threshold.device)
        return self

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
        found = smallest < torch.inf
        weight = torch.where(self.num_batches_tracked == 0, 1.0, self.momentum)
        moved = self.running_threshold.lerp(smallest, weight)
        self.running_threshold.copy_(torch.where(found, moved, self.running_threshold))
        self.num_batches_tracked.add_(found)

    def extra_repr(self) -> str:
        """k, the dim, the ranking and the momentum."""
        joined = ", joined=True" if self.joined else ""
        return f"k={self.k}, dim={self.dim}, by={self.by!r}, momentum={self.momentum:g}{joined}"
