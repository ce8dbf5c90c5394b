"""One training step of an MLP: plain, with an L1 penalty on every activation, with a meter.

Six layers of width 1024, batch 1024, 2 threads. The penalty is ours in both modes, and the usual
hand-written one: hooks that keep the outputs, whose ``torch.norm(out, 1)`` are summed.

Freed memory stays with the process (``mallopt``): otherwise glibc hands some of it back after
every step, and the page faults that follow, a few percent of a step, fall on one side or another
by the luck of the heap's layout.
"""

import copy
import ctypes
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

import sparsact as sa
from harness import alternate, write

WIDTH, LAYERS, BATCH, COEFFICIENT = 1024, 6, 1024, 1e-6
ROUNDS = 2  # each a run of its own over all sides: a ratio is believed when it repeats

Step = Callable[[], list[Tensor]]


def build() -> nn.Sequential:
    blocks = [(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(LAYERS)]
    return nn.Sequential(*(module for block in blocks for module in block))


def step(model: nn.Module, x: Tensor, y: Tensor, penalty: Callable[[], Tensor] | None) -> Step:
    """A whole training step; it returns the gradients."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def run() -> list[Tensor]:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        if penalty is not None:
            loss = loss + penalty()
        loss.backward()
        optimizer.step()
        return [parameter.grad for parameter in model.parameters()]

    return run


def hand_written(model: nn.Module) -> Callable[[], Tensor]:
    kept: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, args, out: kept.append(out))

    def penalty() -> Tensor:
        total = COEFFICIENT * sum(torch.norm(out, 1) for out in kept) / BATCH
        kept.clear()
        return total

    return penalty


def sides() -> dict[str, Step]:
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, WIDTH), torch.randn(BATCH, WIDTH)
    original = build()
    models = {
        name: copy.deepcopy(original)
        for name in ("plain", "penalty, loss", "penalty, inject", "hand-written", "meter")
    }
    spec = {nn.ReLU: sa.L1(COEFFICIENT)}
    sa.ActivationPenalty(models["penalty, inject"], spec, mode="inject")
    sa.SparsityMeter(models["meter"], nn.ReLU)
    penalties = {
        "penalty, loss": sa.ActivationPenalty(models["penalty, loss"], spec),
        "hand-written": hand_written(models["hand-written"]),
    }
    return {name: step(model, x, y, penalties.get(name)) for name, model in models.items()}


def check(found: dict[str, list[Tensor]]) -> None:
    """Every side computed what it stands for: the same gradients."""
    for name, reference in [
        ("meter", "plain"),
        ("penalty, loss", "hand-written"),
        ("penalty, inject", "hand-written"),
    ]:
        for got, wanted in zip(found[name], found[reference], strict=True):
            torch.testing.assert_close(got, wanted)


def keep_freed_memory() -> None:
    """Never trim the heap, and take large blocks from it, too."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)


def measure() -> dict[str, float]:
    steps = sides()
    check({name: [grad.clone() for grad in run()] for name, run in steps.items()})
    return alternate(steps, repeats=21)


def main() -> None:
    torch.set_num_threads(2)
    keep_freed_memory()
    rounds = [measure() for _ in range(ROUNDS)]
    times = {name: statistics.median(run[name] for run in rounds) for name in rounds[0]}

    def ratios(name: str, reference: str) -> list[float]:
        return [round(run[name] / run[reference], 3) for run in rounds]

    write(
        "penalties",
        {
            "ms": {name: round(value, 2) for name, value in times.items()},
            "ratios, one per round": {
                f"{name} / {reference}": ratios(name, reference)
                for name, reference in [
                    ("penalty, loss", "plain"),
                    ("penalty, inject", "plain"),
                    ("hand-written", "plain"),
                    ("penalty, loss", "hand-written"),
                    ("penalty, inject", "hand-written"),
                    ("meter", "plain"),
                ]
            },
        },
    )


if __name__ == "__main__":
    main()
