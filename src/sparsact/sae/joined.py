"""Several processes that each have a part of the batch: what one with the whole would find."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.sae.config import SAETrainConfig
from sparsact.sae.loss import LossParts

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(**options: Any) -> "Accelerator":
    """Device and processes as the launcher set them up, with other options of ``Accelerator``.

    On a machine without an accelerator, processes are only joined if the CPU is asked for.

    Raises:
        ImportError: accelerate is not installed (extra ``sae``).
    """
    accelerate: Any = require("accelerate", "sae")
    made: Accelerator = accelerate.Accelerator(cpu=not torch.accelerator.is_available(), **options)
    return made


def check_accelerator(config: SAETrainConfig, accelerator: "Accelerator") -> None:
    """Raise for what accelerate was asked for and training does not do."""
    kind, precision = accelerator.distributed_type.value, accelerator.mixed_precision
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ValueError(
            f"training under accelerate's {kind} is not supported; for FSDP launch plain processes "
            "(torchrun, or accelerate launch without --use_fsdp) and set shard=True (--shard)"
        )
    if precision not in ("no", "bf16"):
        raise ValueError(f"mixed precision must be 'no' or 'bf16', got {precision!r}")
    if config.shard and accelerator.num_processes == 1:
        raise ValueError("shard=True spreads over processes, and there is one: use torchrun")


def check_parts(accelerator: "Accelerator", x: Tensor, target: Tensor, step: int) -> None:
    """Raise in every process for what is wrong in one: alone, it would leave others waiting.

    Raises:
        InputError: a ValueError: NaN or infinity.
        ValueError: parts of different sizes.
    """
    found = torch.stack([_is_finite(x), _is_finite(target)]).long()
    parts = accelerator.gather(torch.cat([found, found.new_tensor([len(x)])])[None])
    inputs, targets, sizes = parts.T.tolist()
    for name, finite in (("input", inputs), ("target", targets)):
        if not all(finite):
            raise InputError(
                f"the {name} batch of step {step} has NaN or infinity: leave such rows out"
            )
    if len(set(sizes)) > 1:
        raise ValueError(f"each process must get a part of the same size, got {sizes}")


def _is_finite(x: Tensor) -> Tensor:
    """Whether all of it is; a finite sum, much the faster to have, says so too."""
    found = x.sum(dtype=torch.float32).isfinite()
    return found if bool(found) else x.isfinite().all()


def join(accelerator: "Accelerator", parts: LossParts) -> LossParts:
    """The statistics of the joined batch, from those of equally large parts."""
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
    found: Tensor = accelerator.reduce(value, "mean")
    return found
