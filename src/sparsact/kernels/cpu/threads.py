"""How compiled kernels run: threads, forks and the threading layer.

A kernel is a pair: a serial part that works on a range of rows, and a driver that hands ranges to
threads. With one thread, or in a forked child, the part runs alone: GNU OpenMP does not survive a
fork.

The threading layer is `omp` where Numba offers it. torch's workers spin for a while after a
parallel region, and a pool of other threads then waits for the core. Numba's `omp` layer finds the
OpenMP library that torch has loaded, and so works with torch's own threads. Measured on 2 cores
with a gather of 1024→2048 bfloat16 weights, alternating with torch's gelu of 2¹⁷ entries: under
`omp` the kernel takes 0.12 ms and both together 0.22 ms (0.20 when run separately); under
`workqueue` they take 0.35 and 0.37 ms. Each thread gets one range: Numba's schedule is static, so
smaller ranges would not be rebalanced.
"""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numba
import torch

_config: Any = numba.config
_layer: Callable[[], str] = numba.threading_layer  # type: ignore[attr-defined]
_one_at_a_time = threading.Lock()  # for the workqueue layer, which is not thread-safe
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class Threads:
    """Runs kernels on as many threads as torch has.

    Args:
        at_most: an upper bound on the number of threads.
        set_number: called with the number of threads before a driver runs, if it has changed.
    """

    def __init__(self, at_most: int, set_number: Callable[[int], None]) -> None:
        self._at_most, self._set_number = at_most, set_number
        self._last = threading.local()  # Numba keeps a number of threads for each Python thread

    def count(self, rows: int) -> int:
        """The number of threads for a kernel over `rows` rows."""
        if _forked:
            return 1
        return max(1, min(torch.get_num_threads(), self._at_most, rows))

    def run(
        self, driver: Callable[..., Any], part: Callable[..., Any], rows: int, *args: Any
    ) -> Any:
        """Return ``part(0, rows, *args)``, computed by the driver if there are several threads."""
        count = self.count(rows)
        if count == 1:
            return part(0, rows, *args)
        if getattr(self._last, "count", 0) != count:  # setting it takes as long as a small kernel
            self._set_number(count)
            self._last.count = count
        with _exclusion():
            return driver(count, rows, *args)


def _exclusion() -> AbstractContextManager[object]:
    try:
        layer = _layer()
    except ValueError:  # no parallel kernel has run yet: this one may be the first
        return _one_at_a_time
    return _one_at_a_time if layer == "workqueue" else nullcontext()


_threads = Threads(_config.NUMBA_NUM_THREADS, numba.set_num_threads)
run = _threads.run
threads = _threads.count
