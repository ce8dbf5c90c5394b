"""``python -m sparsact.kernels``: compile every kernel once and show what is live.

What is compiled is kept on disk, so that later processes only load it.
"""

import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sparsact import kernels
from sparsact.kernels._examples import EXAMPLES
from sparsact.kernels._library import numba_is_installed

DTYPES = (torch.float32, torch.bfloat16)


def warm(operation: str) -> tuple[float, bool]:
    """Call an operation in every dtype, serial and parallel: the seconds, and if it compiled."""
    before, start, threads = compiled(), time.perf_counter(), torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for dtype in DTYPES:
                for call in EXAMPLES[operation](dtype):
                    call()
    finally:
        torch.set_num_threads(threads)
    return time.perf_counter() - start, compiled() > before


def main() -> None:
    """Print a line for each operation, then the threads and where compiled code is kept."""
    live = kernels.backends()
    print(f"{'operation':<22}{'on the CPU':<28}first calls")
    for operation in sorted(EXAMPLES):
        if live[operation] == "reference":
            print(f"{operation:<22}{'reference (no Numba)':<28}-")
            continue
        seconds, anew = warm(operation)
        found = f"compiled in {seconds:.1f} s" if anew else f"cached ({seconds:.1f} s)"
        print(f"{operation:<22}{live[operation]:<28}{found}")
    if numba_is_installed():
        _print_runtime()


def _print_runtime() -> None:
    import numba

    try:
        layer: str = numba.threading_layer()  # type: ignore[attr-defined]
    except ValueError:  # no parallel kernel has run: this process has one core
        layer = "none needed"
    paths = sorted({kernel.stats.cache_path for kernel in _dispatchers()})
    print(f"\nthreading layer: {layer}")
    print(f"threads: {torch.get_num_threads()} (torch.get_num_threads(), {os.cpu_count()} cores)")
    print(f"compiled code: {', '.join(paths)}")


def compiled() -> int:
    """How many kernels this process has compiled, rather than loaded."""
    return sum(sum(kernel.stats.cache_misses.values()) for kernel in _dispatchers())


def _dispatchers() -> Iterator[Any]:
    from numba.core.dispatcher import Dispatcher

    for file in sorted(Path(kernels.__file__).with_name("_cpu").glob("[!_]*.py")):
        module = importlib.import_module(f"sparsact.kernels._cpu.{file.stem}")
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
                yield value


if __name__ == "__main__":
    main()
