"""One training step of one process; run by torchrun from test_distributed.py."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import sparsact as sa


def gradients(mode: str, rank: int, size: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(8, 4)
    spec = {"*1": sa.L1(0.3), "*2": sa.ElasticNet(0.2)}
    wrapped = DistributedDataParallel(model) if size > 1 else model
    with sa.ActivationPenalty(wrapped, spec, mode=mode) as penalty:
        loss = wrapped(x.chunk(size)[rank]).square().mean()
        if mode == "loss":
            loss = loss + penalty()
        loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    results = {mode: gradients(mode, rank, dist.get_world_size()) for mode in ("loss", "inject")}
    torch.save(results, Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()
