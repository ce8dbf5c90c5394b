"""Whether Triton's kernels run on a device; where they cannot, plain torch does, which says why."""

import functools
import importlib.metadata
import os
import re
import warnings

import torch

SWITCH = "SPARSACT_TRITON"
"""The environment variable that turns the kernels on: they have not run on a GPU yet."""
OLDEST = (3, 4)
"""The oldest Triton: that of torch 2.8."""
_OLDEST_GPU = (7, 5)  # compute capability, for Triton itself
_OLDEST_BFLOAT16 = (8, 0)


class NoGPUKernelsWarning(UserWarning):
    """Plain torch runs an operation on a GPU, because Triton's kernels cannot."""


def is_usable(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels are on, and run on this GPU for this dtype; if not, say why once."""
    if os.environ.get(SWITCH) != "1":
        return False
    reason = _reason(device, dtype)
    if reason is not None:
        _warn(reason)
    return reason is None


@functools.cache
def _reason(device: torch.device, dtype: torch.dtype) -> str | None:
    if torch.version.hip is not None:
        return None if triton_version() >= OLDEST else _old_triton(triton_version())
    capability = torch.cuda.get_device_capability(device)
    return reason(triton_version(), capability, torch.cuda.get_device_name(device), dtype)


def reason(
    version: tuple[int, ...], capability: tuple[int, int], gpu: str, dtype: torch.dtype
) -> str | None:
    """Why the kernels cannot run; None if they can.

    Args:
        version: of Triton; () without it.
        capability: compute capability of the GPU.
        gpu: its name.
        dtype: of an operand.
    """
    if version < OLDEST:
        return _old_triton(version)
    is_half = dtype == torch.bfloat16
    oldest = _OLDEST_BFLOAT16 if is_half else _OLDEST_GPU
    if capability < oldest:
        what = "has no bfloat16" if is_half else "is older than Triton supports"
        return f"{gpu} (compute capability {capability[0]}.{capability[1]}) {what}"
    return None


def _old_triton(version: tuple[int, ...]) -> str:
    number = ".".join(map(str, version))
    present = f"Triton {number} is too old" if version else "Triton is not installed"
    return f"{present}: install triton>={OLDEST[0]}.{OLDEST[1]}, or sparsact[triton]"


@functools.cache
def triton_version() -> tuple[int, ...]:
    """Major and minor version of Triton; () without it."""
    for name in ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-windows"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return ()


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"{reason}. Plain torch replaces sparsact's GPU kernels, which is right and slower",
        NoGPUKernelsWarning,
        stacklevel=4,
    )
