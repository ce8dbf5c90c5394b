"""``python -m sparsact.kernels``: compile every kernel once and show what runs.

Compiled code is kept on disk, so later processes only load it.
"""

import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sparsact import kernels
from sparsact.kernels.definition import numba_is_installed
from sparsact.kernels.warm_up_calls import WARM_UP_CALLS

DTYPES = (torch.float32, torch.bfloat16)


def warm_up(operation: str) -> tuple[float, bool]:
    """Call an operation in every dtype, on one thread and on two.

    Returns:
        the seconds this took, and whether anything was compiled.
    """
    before, start, threads = compiled(), time.perf_counter(), torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for dtype in DTYPES:
                for call in WARM_UP_CALLS[operation](dtype):
                    call()
    finally:
        torch.set_num_threads(threads)
    return time.perf_counter() - start, compiled() > before


def main() -> None:
    """Print a line for each operation, then the threads and the directory of compiled code."""
    backends = kernels.backends()
    print(f"{'operation':<22}{'on the CPU':<28}first calls")
    for operation in sorted(WARM_UP_CALLS):
        if backends[operation] == "reference":
            print(f"{operation:<22}{'reference (no Numba)':<28}-")
            continue
        seconds, has_compiled = warm_up(operation)
        result = f"compiled in {seconds:.1f} s" if has_compiled else f"cached ({seconds:.1f} s)"
        print(f"{operation:<22}{backends[operation]:<28}{result}")
    if numba_is_installed():
        _print_runtime()


def _print_runtime() -> None:
    import numba

    try:
        layer: str = numba.threading_layer()  # type: ignore[attr-defined]
    except ValueError:  # no parallel kernel has run: this process has one core
        layer = "none needed"
    print(f"\nthreading layer: {layer}")
    print(f"threads: {torch.get_num_threads()} (torch.get_num_threads(), {os.cpu_count()} cores)")
    print(f"compiled code: {', '.join(cache_directories())}")


def cache_directories() -> list[str]:
    """Where compiled code is kept."""
    return sorted({kernel.stats.cache_path for kernel in _dispatchers()})


def compiled() -> int:
    """How many kernels this process has compiled rather than loaded."""
    return sum(sum(kernel.stats.cache_misses.values()) for kernel in _dispatchers())


def _dispatchers() -> Iterator[Any]:
    from numba.core.dispatcher import Dispatcher

    for file in sorted(Path(kernels.__file__).with_name("cpu").glob("[!_]*.py")):
        module = importlib.import_module(f"sparsact.kernels.cpu.{file.stem}")
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
                yield value


if __name__ == "__main__":
    main()
