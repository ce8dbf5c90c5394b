"""How many active inputs make the dense product faster than skipping, measured on this machine."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_REPEATS = 5
_COLD_BYTES = 1 << 26  # read between two runs, so that the weights are out of the cache

Shapes = tuple[Any, ...]
Case = tuple[Shapes, torch.dtype, int, int]  # weights, dtype of x, bits of the rows, threads
Product = Callable[[Tensor, int], Sequence[Tensor]]
"""Takes rows and the number of active inputs up to which it skips; returns the outputs."""


class Crossings:
    """Up to how many active inputs skipping is faster, measured once for each case.

    Args:
        shortest: takes functions and returns the shortest time of each, in milliseconds.
    """

    def __init__(self, shortest: Callable[..., Sequence[float]] | None = None) -> None:
        self._shortest = shortest or shortest_ms
        self._inputs_at_most: dict[Case, int] = {}

    def inputs_at_most(self, case: Case, product: Product, x: Tensor, threshold: Tensor) -> int:
        """The crossing of a case; its first call measures it.

        Args:
            case: layers with equal cases share a measurement.
            product: computes the layer.
            x: (..., in), rows of the case.
            threshold: the layer's thresholds.
        """
        most = self._inputs_at_most.get(case)
        if most is None:
            most = self._inputs_at_most[case] = self._measure(product, x, threshold)
        return most

    def measured(self, shapes: Shapes) -> dict[int, int]:
        """The crossings of such weights at the current number of threads, by the rows' bits."""
        threads = torch.get_num_threads()
        return {
            bits: most
            for (other, _, bits, used), most in self._inputs_at_most.items()
            if (other, used) == (shapes, threads)
        }

    def _measure(self, product: Product, x: Tensor, threshold: Tensor) -> int:
        inputs = x.shape[-1]
        if inputs == 0 or product(x, inputs)[0].numel() == 0:
            return inputs
        largest = min(torch.finfo(x.dtype).max, torch.finfo(torch.float32).max)
        active = min(2 * float(threshold.max()) + 1, largest)
        full = torch.full_like(x, active, memory_format=torch.contiguous_format)
        half = full.clone()
        half[..., ::2] = 0
        all_ms, half_ms, dense_ms = self._shortest(
            lambda: product(full, inputs), lambda: product(half, inputs), lambda: product(full, -1)
        )
        return crossing(inputs, all_ms, half_ms, dense_ms)


def crossing(inputs: int, all_ms: float, half_ms: float, dense_ms: float) -> int:
    """Where the line through skipping's times with all and half the inputs meets the dense time.

    Returns:
        a number of active inputs; -1 if the dense product is always faster.
    """
    if all_ms <= dense_ms:
        return inputs
    slope = (all_ms - half_ms) / (inputs - inputs // 2)
    if slope <= 0:
        return -1
    return max(-1, int(inputs - (all_ms - dense_ms) / slope))


def shortest_ms(*functions: Callable[[], object], cold_bytes: int = _COLD_BYTES) -> list[float]:
    """The shortest time of each function, run in turn with cold weights.

    The shortest is used because other load on the machine must not influence the choice.
    """
    times: list[list[float]] = [[] for _ in functions]
    for run in functions:
        run()
    for _ in range(_REPEATS):
        for run, own_times in zip(functions, times, strict=True):
            _cold_memory(cold_bytes).sum()
            start = time.perf_counter()
            run()
            own_times.append(1e3 * (time.perf_counter() - start))
    return [min(own_times) for own_times in times]


@functools.cache
def _cold_memory(size: int) -> Tensor:
    return torch.zeros(size // 4)


_current = [Crossings()]  # the last one is in use


def crossings() -> Crossings:
    """The measurements of this process."""
    return _current[-1]


@contextmanager
def use_crossings(replacement: Crossings) -> Iterator[None]:
    """A block that uses other measurements, such as known ones."""
    _current.append(replacement)
    try:
        yield
    finally:
        _current.pop()
