"""Forward and backward of a threshold on (8192, 1024): ours, torch's and the usual composite."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import sparsact.functional as SF
from harness import alternate, write

SHAPE = (8192, 1024)
Function = Callable[[Tensor, Tensor], Tensor]


def soft_composite(x: Tensor, lambd: Tensor) -> Tensor:
    return torch.sign(x) * torch.relu(torch.abs(x) - lambd)


def hard_composite(x: Tensor, lambd: Tensor) -> Tensor:
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
        "ours fixed": lambda x, lambd: SF.hardshrink(x, 0.5),
        "torch fixed": lambda x, lambd: F.hardshrink(x, 0.5),
    },
    "clip": {"ours learned": SF.clip, "composite": clip_composite},
}


def step(function: Function, x: Tensor, lambd: Tensor, grad: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        x.grad = lambd.grad = None
        result = function(x, lambd)
        result.backward(grad)
        return result

    return run


def measure(name: str, dtype: torch.dtype, compiled: bool) -> dict[str, float]:
    x = torch.randn(SHAPE, dtype=dtype).requires_grad_()
    lambd = torch.full((SHAPE[1],), 0.5, dtype=dtype).requires_grad_()
    grad = torch.randn(SHAPE, dtype=dtype)
    sides = {
        side: step(torch.compile(function) if compiled else function, x, lambd, grad)
        for side, function in SIDES[name].items()
    }
    results = [run().detach() for run in sides.values()]
    for other in results[1:]:
        torch.testing.assert_close(results[0], other)
    return {side: round(value, 3) for side, value in alternate(sides).items()}


def main() -> None:
    torch.manual_seed(0)
    results = {}
    for compiled in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            for name in SIDES:
                times = measure(name, dtype, compiled)
                key = f"{name} {str(dtype)[6:]} {'compiled' if compiled else 'eager'}"
                results[key] = {
                    "ms": times,
                    "composite / ours learned": round(
                        times["composite"] / times["ours learned"], 2
                    ),
                }
                if "torch fixed" in times:
                    results[key] |= {
                        "ours learned / torch fixed": round(
                            times["ours learned"] / times["torch fixed"], 2
                        ),
                        "ours fixed / torch fixed": round(
                            times["ours fixed"] / times["torch fixed"], 2
                        ),
                    }
    write("thresholds", results)


if __name__ == "__main__":
    main()
