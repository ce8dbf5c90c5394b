"""Parameters that ``fully_shard`` distributes over processes."""

from torch import Tensor


def gather(value: Tensor) -> Tensor:
    """Assemble a value computed from a sharded parameter from all its shards.

    All processes get it as a plain tensor; its gradient reaches each process's own shard. Any
    other tensor is returned unchanged.
    """
    # found by its method: importing torch.distributed.tensor would slow down every start
    full_tensor = getattr(value, "full_tensor", None)
    if full_tensor is None:
        return value
    full: Tensor = full_tensor()
    return full
