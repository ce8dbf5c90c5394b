"""Measuring sides alternately in one run, and writing down what was found and where."""

import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def alternate(
    sides: Mapping[str, Callable[[], object]], repeats: int = 21, warmup: int = 3
) -> dict[str, float]:
    """Median milliseconds of each side; every repeat runs them all, in turn, after a warm-up.

    The order changes from repeat to repeat: a side that always follows the same other one
    inherits its caches and its allocator.
    """
    order = list(sides)
    shuffle = random.Random(0).shuffle
    for _ in range(warmup):
        for run in sides.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            sides[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def write(name: str, results: object) -> None:
    """Print the results and write them as JSON, with versions, CPU and threads."""
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": f"{_cpu()}, {_units()}",
        "threads": torch.get_num_threads(),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"environment": environment, "results": results}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def _units() -> str:
    """What most of the figures depend on: the vectors' width, and units for bfloat16."""
    narrow = torch.cpu.get_capabilities().get("avx512_bf16")
    return torch.backends.cpu.get_cpu_capability() + (" with bfloat16 units" if narrow else "")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
