"""Training under FSDP2 in one of two processes; run by torchrun from test_sharded.py."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import sparsact as sa

ACTIVATIONS = {"1": sa.L1(0.3), "2": sa.ElasticNet(0.2)}
WEIGHTS = {  # the weight is sharded by rows: groups along dim 0 span the shards
    "L1": sa.L1(0.3),
    "L2": sa.L2(0.2),
    "GroupLasso rows": sa.GroupLasso(0.1, dim=1),
    "GroupLasso columns": sa.GroupLasso(0.1, dim=0),
    "SparseGroupLasso": sa.SparseGroupLasso(0.1, dim=0),
    "LogSum": sa.LogSum(0.1),
    "LHalf": sa.LHalf(0.1),
    "MCP": sa.MCP(0.1),
    "SCAD": sa.SCAD(0.1),
    "OSCAR rows": sa.OSCAR(0.1),
    "SLOPE columns": sa.SLOPE(0.1, dim=0),
    "NuclearNorm": sa.NuclearNorm(0.1),
    "HoyerSquare": sa.HoyerSquare(0.1, dim=(0, 1)),
}
PROXIMAL = {
    "L1": sa.L1(0.3),
    "GroupLasso columns": sa.GroupLasso(0.2, dim=0),
    "MCP": sa.MCP(0.3),
    "SCAD": sa.SCAD(0.3),
    "LHalf": sa.LHalf(0.2),
}
Results = dict[str, dict[str, torch.Tensor]]


def build(size: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return shard(model) if size > 1 else model


def shard(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def unsharded(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: unsharded(parameter.grad) for name, parameter in model.named_parameters()}


def results(rank: int, size: int) -> Results:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)).chunk(size)[rank]
    by_case = {}
    for mode in ("loss", "inject"):
        for attached_first in (True, False):
            model = build(1) if attached_first else build(size)
            with sa.ActivationPenalty(model, ACTIVATIONS, mode=mode) as penalty:
                if attached_first and size > 1:
                    shard(model)
                loss = model(x).square().mean()
                (loss + penalty() if mode == "loss" else loss).backward()
            by_case[f"activations, {mode}, attached first: {attached_first}"] = gradients(model)
    for name, each in WEIGHTS.items():
        model = build(size)
        value = sa.WeightPenalty(model, {"0.weight": each, "2.bias": sa.L2(0.1)})()
        (model(x).square().mean() + value).backward()
        by_case[f"weights, {name}"] = {"value": value.detach(), **gradients(model)}
    for name, each in PROXIMAL.items():
        model = build(size)
        inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        optimizer = sa.optim.Proximal(inner, model, {"0.weight": each})
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        nonzero = torch.tensor(optimizer.nonzero()["0.weight"])
        by_case[f"proximal, {name}"] = {"nonzero": nonzero, "weight": unsharded(model[0].weight)}
    if size > 1:
        for each in (sa.SLOPE(0.1), sa.NuclearNorm(0.1)):
            model = build(size)
            with pytest.raises(ValueError, match="has no prox for a sharded weight"):
                sa.optim.Proximal(torch.optim.SGD(model.parameters()), model, {"0.weight": each})
    return by_case


if __name__ == "__main__":
    dist.init_process_group("gloo")
    by_case = results(dist.get_rank(), dist.get_world_size())
    torch.save(by_case, Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
