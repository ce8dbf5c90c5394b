"""What processes that each hold some latents of one dictionary exchange in a step."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sparsact._common.processes import several_processes


def joined_sum(part: Tensor) -> Tensor:
    """The sum over processes of a tensor; each process's part gets the gradient of the sum."""
    total: Tensor = _Sum.apply(part) if several_processes() else part  # type: ignore[no-untyped-call]
    return total


def shared(tensor: Tensor) -> Tensor:
    """The same tensor; its gradients from all processes are added."""
    same: Tensor = _Share.apply(tensor) if several_processes() else tensor  # type: ignore[no-untyped-call]
    return same


def summed(value: Tensor) -> Tensor:
    """The sum over processes of a tensor without gradient."""
    value = value.detach().clone()
    if several_processes():
        dist.all_reduce(value)
    return value


def keep_largest(pre: Tensor, k: int) -> Tensor:
    """The positive part of the k largest entries of each row of all processes; else 0.

    Each process offers its k largest; 4·k·processes bytes per row are exchanged.

    Args:
        pre: (batch, own latents).
        k: entries kept in a row, over all processes.

    Returns:
        (batch, own latents), with gradient at the entries that are kept.
    """
    count = min(k, pre.shape[1])
    values, places = pre.topk(count, dim=1)
    offered = pre.new_full((len(pre), k), -torch.inf)
    offered[:, :count] = values.detach()
    rank = 0
    if several_processes():
        rank = dist.get_rank()
        every = [torch.empty_like(offered) for _ in range(dist.get_world_size())]
        dist.all_gather(every, offered)
        offered = torch.cat(every, 1)
    chosen = torch.zeros_like(offered, dtype=torch.bool)
    chosen.scatter_(1, offered.topk(k, dim=1).indices, True)
    own = chosen[:, rank * k : rank * k + count]
    return torch.zeros_like(pre).scatter(1, places, values.relu() * own)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Share(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
