"""How compiled kernels are built and run: threads, forks and the threading layer.

A kernel is a pair: a serial part that works on a range of rows, and a driver that hands ranges to
threads. One thread, or a forked child, runs the part alone: GNU OpenMP does not survive a fork.

The threading layer is `omp` where Numba offers it. torch's workers spin for a while after a
parallel region, and a pool of other threads then waits for the core; Numba's `omp` layer finds the
OpenMP that torch has loaded and so works with torch's very threads. Measured on 2 cores with a
gather of 1024→2048 bfloat16 weights, in turn with torch's gelu of 2¹⁷ entries: under `omp` the
kernel takes 0.12 ms and a round 0.22 ms (0.20 for the two apart), under `workqueue` 0.35 and 0.37.
Each thread gets one range: smaller ones would not be shared out again, Numba's schedule is static.
"""

import functools
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

_config: Any = numba.config
_threads_at_most: int = _config.NUMBA_NUM_THREADS
_layer: Callable[[], str] = numba.threading_layer  # type: ignore[attr-defined]

if "NUMBA_THREADING_LAYER" not in os.environ and "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    # torch's OpenMP workers spin after a parallel region, and other pools wait for the core
    _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

Array = np.ndarray[Any, Any]

part = numba.njit(nogil=True, cache=True, error_model="numpy")
summing_part = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"}
)
driver = numba.njit(nogil=True, cache=True, error_model="numpy", parallel=True)

_forked = False
_told = threading.local()  # Numba's number of threads belongs to a thread
_one_at_a_time = threading.Lock()  # for the workqueue layer, which is not thread-safe


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def threads(rows: int) -> int:
    """The number of threads for a kernel over `rows` rows: as torch has it set."""
    if _forked:
        return 1
    return max(1, min(torch.get_num_threads(), _threads_at_most, rows))


def run(driver: Callable[..., Any], part: Callable[..., Any], rows: int, *args: Any) -> Any:
    """What ``part(start, stop, *args)`` gives over all rows, on as many threads as torch has."""
    count = threads(rows)
    if count == 1:
        return part(0, rows, *args)
    if getattr(_told, "threads", 0) != count:  # telling Numba takes as long as a small kernel
        numba.set_num_threads(count)
        _told.threads = count
    with _exclusion():
        return driver(count, rows, *args)


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has units for it; without them torch.mm takes 7 times as long in bfloat16.

    False too where torch is too old to say so: then float32 is used, which is slower and right.
    """
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # the last two are ARM's
    return any(found.get(unit) for unit in units)


def array(tensor: Tensor) -> Array:
    """The same memory as a NumPy array; bfloat16 comes as uint16, which `dtypes` reads."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    found: Array = tensor.numpy()
    return found


def _exclusion() -> AbstractContextManager[object]:
    try:
        layer = _layer()
    except ValueError:  # no parallel kernel has run yet: this one may be the first
        return _one_at_a_time
    return _one_at_a_time if layer == "workqueue" else nullcontext()
