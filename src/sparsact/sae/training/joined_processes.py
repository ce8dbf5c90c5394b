"""Several processes with a part of the batch each: the results of one process with all of it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.sae.sae_config import SAETrainConfig
from sparsact.sae.training.sae_loss import LossParts

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(**options: Any) -> "Accelerator":
    """Device and processes as the launcher set them up; `options` are those of ``Accelerator``.

    Without a GPU the CPU must be requested, because otherwise processes are not joined.

    Raises:
        ImportError: accelerate is not installed (extra ``sae``).
    """
    accelerate: Any = require("accelerate", "sae")
    made: Accelerator = accelerate.Accelerator(cpu=not torch.accelerator.is_available(), **options)
    return made


def check_accelerator(config: SAETrainConfig, accelerator: "Accelerator") -> None:
    """Raise InputError if accelerate is set up in a way that training does not support."""
    kind, precision = accelerator.distributed_type.value, accelerator.mixed_precision
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise InputError(
            f"training under accelerate's {kind} is not supported; for FSDP, start plain processes "
            "(with torchrun, or with accelerate launch without its FSDP option) and set shard=True"
        )
    if precision not in ("no", "bf16"):
        raise InputError(f"mixed precision must be 'no' or 'bf16', got {precision!r}")
    if config.shard and accelerator.num_processes == 1:
        raise InputError("shard=True needs several processes, but there is one: use torchrun")


def check_parts(accelerator: "Accelerator", x: Tensor, target: Tensor, step: int) -> None:
    """Raise in every process if the part of one is wrong. Otherwise the others would wait for it.

    Raises:
        InputError: a ValueError: NaN or infinity, or parts of different sizes.
    """
    parts = (x, target)
    # a sum is finite only if all its terms are, and takes one pass; a finite sum may overflow
    inputs, targets, sizes = _gathered(
        accelerator, [part.sum(dtype=torch.float32).isfinite() for part in parts], len(x)
    )
    if not all(inputs + targets):
        every = [part.isfinite().all() for part in parts]
        inputs, targets, sizes = _gathered(accelerator, every, len(x))
    for name, flags in (("input", inputs), ("target", targets)):
        if not all(flags):
            raise InputError(
                f"the {name} batch of step {step} has NaN or infinity: remove such rows"
            )
    if len(set(sizes)) > 1:
        raise InputError(f"each process must get a part of the same size, got {sizes}")


def _gathered(
    accelerator: "Accelerator", finite: list[Tensor], size: int
) -> tuple[list[int], list[int], list[int]]:
    """Of each process, whether its inputs and targets are finite, and the size of its part."""
    own = torch.stack(finite).long()
    inputs, targets, sizes = accelerator.gather(
        torch.cat([own, own.new_full((1,), size)])[None]
    ).T.tolist()  # the one time that the host waits
    return inputs, targets, sizes


def join(accelerator: "Accelerator", parts: LossParts) -> LossParts:
    """The statistics of the joined batch, from those of parts of equal size."""
    if accelerator.num_processes == 1:
        return parts
    *scalars, fired, center = (part.detach() for part in parts)
    each = torch.cat([torch.stack([value.float() for value in scalars]), center.float()])
    each = accelerator.gather(each[None])
    centers = each[:, len(scalars) :]
    center = centers.mean(0)
    fired = accelerator.reduce(fired.int(), "sum") > 0
    joined = LossParts._make([*each[:, : len(scalars)].mean(0), fired, center])
    between = (centers - center).square().mean()
    return joined._replace(variance=joined.variance + between)


def mean(accelerator: "Accelerator", value: Tensor) -> Tensor:
    """The mean of a tensor without gradient over the processes."""
    if accelerator.num_processes == 1:
        return value
    reduced: Tensor = accelerator.reduce(value, "mean")
    return reduced
