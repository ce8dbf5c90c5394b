"""Parameters that ``fully_shard`` spreads over processes."""

from torch import Tensor


def gather(value: Tensor) -> Tensor:
    """What was computed from a sharded parameter, put together from all shards.

    Every process gets it, as a plain tensor; its gradient reaches each process's own shard. Any
    other tensor is returned as it is.
    """
    # asked for by its method: importing torch.distributed.tensor would slow every start down
    whole = getattr(value, "full_tensor", None)
    if whole is None:
        return value
    result: Tensor = whole()
    return result
