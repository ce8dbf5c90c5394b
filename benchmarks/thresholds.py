"""Forward and backward of thresholds on (8192, 1024): ours, torch's and plain operations.

``eager`` runs all sides as they are, ``compiled`` compiles them with ``torch.compile``.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import sparsact.functional as SF
from harness import Run, main

BANDWIDTH = 0.05  # the default of hardshrink
Function = Callable[[Tensor, Tensor], Tensor]


def soft_composite(x: Tensor, lambd: Tensor) -> Tensor:
    return torch.sign(x) * torch.relu(torch.abs(x) - lambd)


def hard_composite(x: Tensor, lambd: Tensor) -> Tensor:
    """Hardshrink by autograd, with the same straight-through gradient of λ as ours."""
    with torch.no_grad():
        near = torch.abs(torch.abs(x) - lambd) < BANDWIDTH / 2
        slope = torch.sign(x) * lambd * near / BANDWIDTH
    return x * (torch.abs(x) > lambd) - slope * (lambd - lambd.detach())


def hard_without_gradient(x: Tensor, lambd: Tensor) -> Tensor:
    return x * (torch.abs(x) > lambd)


def clip_composite(x: Tensor, lambd: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, -lambd), lambd)


SIDES: dict[str, dict[str, Function]] = {
    "softshrink": {
        "ours learned": SF.softshrink,
        "composite": soft_composite,
        "ours fixed": lambda x, lambd: SF.softshrink(x, 0.5),
        "torch fixed": lambda x, lambd: F.softshrink(x, 0.5),
    },
    "hardshrink": {
        "ours learned": SF.hardshrink,
        "composite": hard_composite,
        "composite, λ without gradient": hard_without_gradient,
        "ours fixed": lambda x, lambd: SF.hardshrink(x, 0.5),
        "torch fixed": lambda x, lambd: F.hardshrink(x, 0.5),
    },
    "clip": {
        "ours learned": SF.clip,
        "composite": clip_composite,
        "torch.clamp": lambda x, lambd: torch.clamp(x, -lambd, lambd),
    },
}


def step(function: Function, x: Tensor, lambd: Tensor, grad: Tensor) -> Callable[[], Tensor]:
    def forward_and_backward() -> Tensor:
        x.grad = lambd.grad = None
        result = function(x, lambd)
        result.backward(grad)
        return result

    return forward_and_backward


def measure(run: Run, name: str, dtype: torch.dtype, compiled: bool) -> dict[str, float]:
    shape = run.size((8192, 1024), (64, 16))
    x = torch.randn(shape, dtype=dtype).requires_grad_()
    lambd = torch.full((shape[1],), 0.5, dtype=dtype).requires_grad_()
    grad = torch.randn(shape, dtype=dtype)
    sides = {
        side: step(torch.compile(function) if compiled else function, x, lambd, grad)
        for side, function in SIDES[name].items()
    }
    results = [side().detach() for side in sides.values()]
    for other in results[1:]:
        torch.testing.assert_close(results[0], other)
    return {side: round(value, 3) for side, value in run.alternate(sides, repeats=15).items()}


RATIOS = [
    ("composite", "ours learned"),
    ("composite, λ without gradient", "ours learned"),
    ("torch.clamp", "ours learned"),
    ("ours learned", "torch fixed"),
    ("ours fixed", "torch fixed"),
]


def eager(run: Run) -> None:
    run.write("thresholds_eager", compare(run, compiled=False))


def compiled(run: Run) -> None:
    run.write("thresholds_compiled", compare(run, compiled=True))


def compare(run: Run, compiled: bool) -> dict[str, object]:
    results: dict[str, object] = {}
    dtypes = (torch.float32, torch.bfloat16)
    # compiling takes seconds for each side: the tiny size compiles the sides of one threshold
    small = run.tiny and compiled
    for dtype in dtypes[:1] if small else dtypes:
        for name in ("clip",) if small else SIDES:
            times = measure(run, name, dtype, compiled)
            ratios = {
                f"{one} / {other}": round(times[one] / times[other], 2)
                for one, other in RATIOS
                if one in times and other in times
            }
            results[f"{name} {str(dtype)[6:]}"] = {"ms": times} | ratios
    return results


if __name__ == "__main__":
    main(__doc__, {"eager": eager, "compiled": compiled})
