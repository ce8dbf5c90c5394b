"""One training step of an MLP: plain, with an L1 penalty on every activation, with a meter.

Six layers of width 1024, batch 1024, 2 threads. The penalty is ours in both modes, or the usual
hand-written one: hooks collect the outputs, and their ``torch.norm(out, 1)`` are summed.

The process keeps freed memory (``mallopt``). Otherwise glibc returns part of it to the system after
every step, and the page faults that follow cost a few percent of a step, of one side or another by
chance.
"""

import copy
import ctypes
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

import sparsact as sa
from harness import Run, main

COEFFICIENT = 1e-6
ROUNDS = 2  # independent measurements of all sides: a ratio must repeat

Step = Callable[[], list[Tensor]]


def build(width: int, layers: int) -> nn.Sequential:
    blocks = [(nn.Linear(width, width), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*(module for block in blocks for module in block))


def step(model: nn.Module, x: Tensor, y: Tensor, penalty: Callable[[], Tensor] | None) -> Step:
    """Make a function that runs a complete training step and returns the gradients."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def training_step() -> list[Tensor]:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        if penalty is not None:
            loss = loss + penalty()
        loss.backward()
        optimizer.step()
        return [parameter.grad for parameter in model.parameters()]

    return training_step


def hand_written(model: nn.Module, batch: int) -> Callable[[], Tensor]:
    outputs: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, args, out: outputs.append(out))

    def penalty() -> Tensor:
        total = COEFFICIENT * sum(torch.norm(out, 1) for out in outputs) / batch
        outputs.clear()
        return total

    return penalty


def sides(run: Run) -> dict[str, Step]:
    torch.manual_seed(0)
    width, layers, batch = run.size((1024, 6, 1024), (8, 2, 8))
    x, y = torch.randn(batch, width), torch.randn(batch, width)
    original = build(width, layers)
    models = {
        name: copy.deepcopy(original)
        for name in ("plain", "penalty, loss", "penalty, inject", "hand-written", "meter")
    }
    spec = {nn.ReLU: sa.L1(COEFFICIENT)}
    sa.ActivationPenalty(models["penalty, inject"], spec, mode="inject")
    sa.SparsityMeter(models["meter"], nn.ReLU)
    penalties = {
        "penalty, loss": sa.ActivationPenalty(models["penalty, loss"], spec),
        "hand-written": hand_written(models["hand-written"], batch),
    }
    return {name: step(model, x, y, penalties.get(name)) for name, model in models.items()}


def check(gradients: dict[str, list[Tensor]]) -> None:
    """Check that sides with the same loss have the same gradients."""
    for name, reference in [
        ("meter", "plain"),
        ("penalty, loss", "hand-written"),
        ("penalty, inject", "hand-written"),
    ]:
        for gradient, expected in zip(gradients[name], gradients[reference], strict=True):
            torch.testing.assert_close(gradient, expected)


def keep_freed_memory() -> None:
    """Never shrink the heap, and take large blocks from it too."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)


def measure(run: Run) -> dict[str, float]:
    steps = sides(run)
    check({name: [grad.clone() for grad in step()] for name, step in steps.items()})
    return run.alternate(steps, repeats=21)


def training_step(run: Run) -> None:
    keep_freed_memory()
    rounds = [measure(run) for _ in range(run.size(ROUNDS, 1))]
    times = {name: statistics.median(times[name] for times in rounds) for name in rounds[0]}

    def ratios(name: str, reference: str) -> list[float]:
        return [round(times[name] / times[reference], 3) for times in rounds]

    run.write(
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
    main(__doc__, {"step": training_step}, threads=2)
