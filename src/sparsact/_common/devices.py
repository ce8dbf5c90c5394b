"""The device that a user names."""

import torch

from sparsact._common.errors import InputError

WITHOUT_FLOAT64 = frozenset({"mps"})
"""Types of devices that have no float64: Apple's GPUs."""


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype for long sums: float64, or float32 where there is none."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def usable_device(device: "str | torch.device") -> torch.device:
    """The device, after one number was put there.

    Raises:
        InputError: it does not exist here, or stores no values.
    """
    try:
        usable = torch.device(device)
        torch.zeros(1, device=usable)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"device={device} cannot be used here: {reason}") from error
    if usable.type == "meta":
        raise InputError("device=meta stores no values, so nothing can be computed on it")
    return usable
