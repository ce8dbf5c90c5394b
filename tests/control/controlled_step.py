"""Some steps under a density control; run by torchrun from test_target_density.py."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import sparsact as sa


def control_values(rank: int, size: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 16), sa.nn.Softshrink(0.1))
    wrapped = DistributedDataParallel(model) if size > 1 else model
    prefix = "module." if size > 1 else ""
    with sa.ActivationPenalty(wrapped, {f"{prefix}1": sa.L1(0.1)}) as penalty:
        spec = {f"{prefix}1": 0.1, f"{prefix}3": 0.2}
        with sa.TargetDensity(wrapped, spec, penalty=penalty, warmup=2) as control:
            for _ in range(4):
                x = torch.randn(32, 4)
                (wrapped(x.chunk(size)[rank]).square().mean() + penalty()).backward()
                control.step()
            values = control.values
    return {name.removeprefix(prefix): value for name, value in values.items()}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.save(control_values(rank, dist.get_world_size()), Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()
