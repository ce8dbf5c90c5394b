"""Several processes of ``torch.distributed``."""

import torch.distributed as dist


def several_processes() -> bool:
    """Whether this is one of several processes of ``torch.distributed``."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
