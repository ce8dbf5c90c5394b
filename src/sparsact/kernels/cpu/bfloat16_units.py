"""What the CPU does with bfloat16."""

import functools
from typing import Any

import torch


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 units; without them torch.mm takes 7 times as long in it.

    False too where torch is too old to know: then float32 is used, which is slower and right.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # the last two are ARM's
    return any(capabilities.get(unit) for unit in units)
