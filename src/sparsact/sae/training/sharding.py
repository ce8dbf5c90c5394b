"""An autoencoder in several processes: copied to each, or sharded (FSDP2).

Modules for sharded tensors are imported where they are used, because they would double the time
it takes to import the package.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparsact.sae.sae_model import SparseAutoencoder


def shard_(module: nn.Module, device: torch.device) -> None:
    """Shard the parameters of `module` over the processes, by rows.

    They are one group: in the forward and backward each process has all of them and their
    gradient. Between steps it has a part, as of the optimizer's state.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    same_everywhere_(module)
    fully_shard(module, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))


@torch.no_grad()
def same_everywhere_(module: nn.Module) -> None:
    """Copy the parameters and buffers of rank 0 to every process."""
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.data, src=0)


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process has only a part of it."""
    return hasattr(tensor, "full_tensor")


def own_rows(tensor: Any) -> Tensor:
    """The rows of a tensor that this process has: all, if it is not sharded."""
    rows: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return rows


def unsharded(tensor: Any) -> Tensor:
    """The complete tensor, in every process. All processes must call this."""
    rows: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor
    return rows


def shard_like(tensor: Tensor, like: Any) -> Tensor:
    """Return `tensor`, or, if `like` is sharded, this process's shard of rank 0's tensor.

    All processes must call this.
    """
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def unsharded_copy(sae: SparseAutoencoder) -> SparseAutoencoder:
    """A copy that is not sharded, in every process. All processes must call this."""
    copied = copy.deepcopy(sae)
    for module in copied.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = unsharded(parameter).detach()
            setattr(module, name, nn.Parameter(values, parameter.requires_grad))
    return copied


@contextmanager
def edited(sae: SparseAutoencoder, processes: int) -> Iterator[SparseAutoencoder]:
    """The complete autoencoder, for every process to change in place in the same way.

    Afterwards all get the result of rank 0, because rounding can differ between machines.
    """
    changed = unsharded_copy(sae) if is_sharded(sae.W_dec) else sae
    yield changed
    if processes > 1:
        same_everywhere_(changed)
    if changed is not sae:
        load_(sae, changed.state_dict())


@torch.no_grad()
def load_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """As ``load_state_dict``, from complete tensors into parameters that may be sharded."""
    own = module.state_dict()
    module.load_state_dict(
        {name: shard_like(value, own.get(name)) for name, value in state.items()}
    )


def gathered(value: Any) -> Any:
    """Nested dicts and lists with every tensor complete. All processes must call this."""
    if isinstance(value, Tensor):
        return unsharded(value)
    if isinstance(value, dict):
        return {key: gathered(item) for key, item in value.items()}
    if isinstance(value, list):
        return [gathered(item) for item in value]
    return value


def shard_optimizer_state(state: dict[str, Any], parameters: list[Tensor]) -> dict[str, Any]:
    """The input of ``optimizer.load_state_dict`` for `parameters`, which may be sharded."""
    entries = {
        index: {
            name: shard_like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    return {**state, "state": entries}
