"""An autoencoder in several processes: the same in each, or spread over them (FSDP2).

What concerns spread tensors is imported where it is used: it would double the time of a start.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparsact.sae.model import SparseAutoencoder


def shard_(module: nn.Module, device: torch.device) -> None:
    """Spread the parameters of `module` over the processes, by rows; they meet in its forward.

    They are one group: in the forward and backward each process has them whole, with their
    gradient; at rest, like the optimizer's state, a part.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    same_everywhere_(module)
    fully_shard(module, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))


@torch.no_grad()
def same_everywhere_(module: nn.Module) -> None:
    """Give every process the parameters and buffers of the first."""
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.data, src=0)


def is_spread(tensor: Tensor) -> bool:
    """Whether each process has a part of it only."""
    return hasattr(tensor, "full_tensor")


def own_rows(tensor: Any) -> Tensor:
    """The rows of a tensor that this process has: all, if it is not spread."""
    rows: Tensor = tensor.to_local() if is_spread(tensor) else tensor
    return rows


def whole(tensor: Any) -> Tensor:
    """All rows, in every process; each must call."""
    rows: Tensor = tensor.full_tensor() if is_spread(tensor) else tensor
    return rows


def spread_like(tensor: Tensor, like: Any) -> Tensor:
    """`tensor`, or of the first process's this one's part, if `like` is spread; each must call."""
    if not is_spread(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def whole_copy(sae: SparseAutoencoder) -> SparseAutoencoder:
    """A copy that is not spread, in every process; each must call."""
    found = copy.deepcopy(sae)
    for module in found.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = whole(parameter).detach()
            setattr(module, name, nn.Parameter(values, parameter.requires_grad))
    return found


@contextmanager
def edited(sae: SparseAutoencoder, processes: int) -> Iterator[SparseAutoencoder]:
    """The whole autoencoder, to be changed in place by every process in the same way.

    What the first one did then holds for all: rounding may differ between machines.
    """
    changed = whole_copy(sae) if is_spread(sae.W_dec) else sae
    yield changed
    if processes > 1:
        same_everywhere_(changed)
    if changed is not sae:
        load_(sae, changed.state_dict())


@torch.no_grad()
def load_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """As ``load_state_dict``, from whole tensors into parameters that may be spread."""
    own = module.state_dict()
    module.load_state_dict(
        {name: spread_like(value, own.get(name)) for name, value in state.items()}
    )


def gathered(value: Any) -> Any:
    """A nesting of dicts and lists with all tensors in it whole; every process must call."""
    if isinstance(value, Tensor):
        return whole(value)
    if isinstance(value, dict):
        return {key: gathered(item) for key, item in value.items()}
    if isinstance(value, list):
        return [gathered(item) for item in value]
    return value


def spread_optimizer_state(state: dict[str, Any], parameters: list[Tensor]) -> dict[str, Any]:
    """What ``optimizer.load_state_dict`` takes for `parameters`, which may be spread."""
    spread = {
        number: {
            name: spread_like(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in entry.items()
        }
        for number, entry in state["state"].items()
    }
    return {**state, "state": spread}
