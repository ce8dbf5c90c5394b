"""Memory growth over 10,000 forwards without reading the penalty: tensors and bytes."""

import gc
import tracemalloc
from pathlib import Path

import torch
from torch import Tensor, nn

import sparsact as sa
from harness import Run, main

BATCH, WIDTH = 4, 64
SETTINGS = {
    "no penalty": None,
    "loss": {"mode": "loss"},
    "inject": {"mode": "inject"},
    "inject, accumulate": {"mode": "inject", "accumulate": True},
    "meter": {},
}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def measure(name: str, forwards: int) -> dict[str, int]:
    """Measure the growth over so many forwards, after a tenth as many that fill all caches."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    settings = SETTINGS[name]
    if name == "meter":
        sa.SparsityMeter(model, nn.ReLU)
    elif settings is not None:
        sa.ActivationPenalty(model, {nn.ReLU: sa.L1(0.1)}, **settings)
    x = torch.randn(BATCH, WIDTH)
    tracemalloc.start()
    for _ in range(forwards // 10):
        model(x)
    before = live_tensors(), tracemalloc.get_traced_memory()[0], resident_bytes()
    for _ in range(forwards):
        model(x)
    after = live_tensors(), tracemalloc.get_traced_memory()[0], resident_bytes()
    tracemalloc.stop()
    keys = ("tensors", "python bytes", "resident bytes")
    return {key: b - a for key, a, b in zip(keys, before, after, strict=True)}


def forwards(run: Run) -> None:
    count = run.size(10_000, 10)
    growth = {name: measure(name, count) for name in SETTINGS}
    activations = 2 * BATCH * WIDTH * 4 * count
    run.write(
        "penalty_memory",
        {f"growth over {count:,} forwards": growth, "bytes of their activations": activations},
    )


if __name__ == "__main__":
    main(__doc__, {"forwards": forwards}, threads=1)
