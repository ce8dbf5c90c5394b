"""Memory over 10,000 forwards whose penalty is never read: objects, tensors, resident bytes."""

import gc
import tracemalloc
from pathlib import Path

import torch
from torch import Tensor, nn

import sparsact as sa
from harness import write

FORWARDS, BATCH, WIDTH = 10_000, 4, 64
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


def measure(name: str) -> dict[str, int]:
    """What 10,000 forwards leave behind, after 1,000 that fill every cache."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    settings = SETTINGS[name]
    if name == "meter":
        sa.SparsityMeter(model, nn.ReLU)
    elif settings is not None:
        sa.ActivationPenalty(model, {nn.ReLU: sa.L1(0.1)}, **settings)
    x = torch.randn(BATCH, WIDTH)
    tracemalloc.start()
    for _ in range(FORWARDS // 10):
        model(x)
    before = live_tensors(), tracemalloc.get_traced_memory()[0], resident_bytes()
    for _ in range(FORWARDS):
        model(x)
    after = live_tensors(), tracemalloc.get_traced_memory()[0], resident_bytes()
    tracemalloc.stop()
    keys = ("tensors", "python bytes", "resident bytes")
    return {key: b - a for key, a, b in zip(keys, before, after, strict=True)}


def main() -> None:
    torch.set_num_threads(1)
    growth = {name: measure(name) for name in SETTINGS}
    one = 2 * BATCH * WIDTH * 4 * FORWARDS
    write(
        "penalty_memory",
        {"growth over 10,000 forwards": growth, "bytes of their activations": one},
    )


if __name__ == "__main__":
    main()
