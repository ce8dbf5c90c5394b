"""Measured here and now: up to how many active inputs skipping is faster than the dense product."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_REPEATS = 5
_COLD_BYTES = 1 << 26  # read between two runs, so that each meets its weights out of the cache

Shapes = tuple[Any, ...]
Case = tuple[Shapes, torch.dtype, int, int]  # weights, dtype of x, bits of the rows, threads
_inputs_at_most: dict[Case, int] = {}


def inputs_at_most(case: Case, measure: Callable[[], int]) -> int:
    """What was measured for a case in this process; at its first time, it is."""
    most = _inputs_at_most.get(case)
    if most is None:
        most = _inputs_at_most[case] = measure()
    return most


def measured(shapes: Shapes) -> dict[int, int]:
    """What was measured for such weights with the present threads, by the bits of the rows."""
    threads = torch.get_num_threads()
    return {
        bits: most
        for (other, _, bits, used), most in _inputs_at_most.items()
        if (other, used) == (shapes, threads)
    }


def find_crossing(
    product: Callable[[Tensor, int], Sequence[Tensor]], x: Tensor, level: Tensor
) -> int:
    """Up to how many active inputs skipping is the faster way for rows like `x`.

    Args:
        product: takes rows and up to how many active inputs it is to skip.
        x: (..., in).
        level: the thresholds.
    """
    inputs = x.shape[-1]
    if inputs == 0 or product(x, inputs)[0].numel() == 0:
        return inputs
    largest = min(torch.finfo(x.dtype).max, torch.finfo(torch.float32).max)
    active = min(2 * float(level.max()) + 1, largest)
    full = torch.full_like(x, active, memory_format=torch.contiguous_format)
    half = full.clone()
    half[..., ::2] = 0
    all_ms, half_ms, dense_ms = _shortest(
        lambda: product(full, inputs), lambda: product(half, inputs), lambda: product(full, -1)
    )
    return crossing(inputs, all_ms, half_ms, dense_ms)


def crossing(inputs: int, all_ms: float, half_ms: float, dense_ms: float) -> int:
    """Where the line through skipping's times with all and half the inputs meets the dense time."""
    if all_ms <= dense_ms:
        return inputs
    slope = (all_ms - half_ms) / (inputs - inputs // 2)
    if slope <= 0:  # skipping does not pay at all
        return -1
    return max(-1, int(inputs - (all_ms - dense_ms) / slope))


def _shortest(*sides: Callable[[], object]) -> list[float]:
    # the shortest of the runs: what else the machine does must not settle the choice
    times: list[list[float]] = [[] for _ in sides]
    for run in sides:
        run()
    for _ in range(_REPEATS):
        for run, spent in zip(sides, times, strict=True):
            _cold().sum()
            start = time.perf_counter()
            run()
            spent.append(1e3 * (time.perf_counter() - start))
    return [min(spent) for spent in times]


@functools.cache
def _cold() -> Tensor:
    return torch.zeros(_COLD_BYTES // 4)
