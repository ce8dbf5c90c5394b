"""Triton's kernels on the GPU of this machine: tests, times and crossovers, in about 8 minutes.

`python benchmarks/gpu.py` runs the tests of the kernels on the GPU, then times each kernel beside
torch's way of doing the same: plain thresholds, dense layers, `torch.topk`, and the Triton decoder
of the library `sparsify` where it is installed. It needs torch 2.11 and Triton 3.6 or newer.
`--tiny` runs it without a GPU, in Triton's interpreter (TRITON_INTERPRET=1), to check that the
script works.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from harness import Run, main
from sparsact.kernels.reference import csr_reference, selection_reference
from sparsact.kernels.triton import csr, gather, linear_topk, shrink

ROOT = Path(__file__).parents[1]
INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETS else "cuda")
Side = Callable[[], object]


def milliseconds(run: Run, side: Side) -> float:
    """The median time of a call on the GPU, with a cold second-level cache."""
    side()
    if INTERPRETS:
        return 0.0
    return float(triton.testing.do_bench(side, rep=run.size(200, 1), return_mode="median"))


def compare(run: Run, sides: dict[str, Side]) -> dict[str, float]:
    """The time of each side, named in milliseconds."""
    return {f"{name}, ms": milliseconds(run, side) for name, side in sides.items()}


def write(run: Run, name: str, results: object) -> None:
    """Write results with the device and the version of Triton."""
    device = "Triton's interpreter" if INTERPRETS else torch.cuda.get_device_name()
    run.write(f"gpu_{name}", {"device": device, "triton": triton.__version__, "times": results})


def tests(run: Run) -> None:
    """Run the tests of the kernels on the GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    select = ["-k", run.size("not contract", "tuning")]
    done = subprocess.run([*command, *select, str(ROOT / "tests/kernels/gpu")], check=False)
    write(run, "tests", {"exit code": done.returncode})
    if done.returncode:
        raise SystemExit("the tests of the kernels failed: the times would mean nothing")


def thresholds(run: Run) -> None:
    """Learned thresholds, one λ per channel, forward and backward, beside plain torch."""
    rows, width = run.size((4096, 16384), (8, 40))
    results = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(rows, width, device=DEVICE, dtype=dtype)
        results |= _threshold(run, x, torch.rand(width, device=DEVICE))
    write(run, "thresholds", results)


def _threshold(run: Run, x: Tensor, level: Tensor) -> dict[str, dict[str, float]]:
    grad, output = torch.randn_like(x), shrink.softshrink(x, level)
    torch.testing.assert_close(output, _plain(x, level))
    compiled = _plain if INTERPRETS else torch.compile(_plain)
    forward = {
        "kernel": lambda: shrink.softshrink(x, level),
        "torch": lambda: _plain(x, level),
        "torch.compile": lambda: compiled(x, level),
    }
    backward = {
        "kernel": lambda: shrink.softshrink_backward(grad, output, level),
        "torch": lambda: _plain_back(grad, output),
    }
    return {
        f"softshrink, {x.dtype}": compare(run, forward),
        f"softshrink backward, {x.dtype}": compare(run, backward),
    }


def _plain(x: Tensor, level: Tensor) -> Tensor:
    wide = x.float()
    return (wide - torch.clamp(wide, -level, level)).to(x.dtype)


def _plain_back(grad: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    pull = torch.where(output == 0, 0.0, grad)
    return pull, (-pull * output.sign()).sum(0, dtype=torch.float32)


def layers(run: Run) -> None:
    """Layers on a few active rows beside the dense layer in bfloat16; where they cross."""
    inputs, outputs = run.size((4096, 14336), (64, 96))
    weight = torch.randn(outputs, inputs, device=DEVICE, dtype=torch.bfloat16)
    weight_t = weight.t().contiguous()
    results = {}
    for rows in run.size((1, 2, 4, 8), (1,)):
        x = torch.randn(rows, inputs, device=DEVICE, dtype=torch.bfloat16)
        dense = {"dense bfloat16": lambda x=x: F.linear(x, weight)}
        results[f"{rows} rows, dense"] = compare(run, dense)
        for density in run.size((1.0, 0.7, 0.5, 0.3, 0.1), (0.5,)):
            level = torch.erfinv(torch.tensor(1 - density, device=DEVICE)) * 2**0.5
            results[f"{rows} rows, density {density}"] = compare(run, _sides(x, weight_t, level))
    write(run, "layers", results)


def _sides(x: Tensor, weight_t: Tensor, level: Tensor) -> dict[str, Side]:
    """Our layer in each dtype of the weight, and a mask before a dense layer."""
    inputs, outputs = weight_t.shape
    half = {"half": weight_t.half(), "x": x.half()}
    whole = torch.randint(-127, 128, weight_t.shape, device=DEVICE).to(torch.int8)
    packed = torch.zeros(inputs, -(-outputs // 32) * 20, dtype=torch.uint8, device=DEVICE)
    scale = torch.ones(outputs, device=DEVICE)
    return {
        "bfloat16": lambda: gather.product(x, weight_t, level, None, None),
        "float16": lambda: gather.product(half["x"], half["half"], level, None, None),
        "int8": lambda: gather.product(x, whole, level, None, scale),
        "int4": lambda: gather.product(x, packed, level, None, scale),
        "mask and dense": lambda: torch.where(x.abs() > level, x, 0) @ weight_t,
    }


def decoder(run: Run) -> None:
    """The decoder of an autoencoder and its gradients, beside dense and gathering products."""
    rows, features, width = run.size((4096, 32768, 2048), (4, 60, 40))
    weight, grad = (torch.randn(n, width, device=DEVICE) for n in (features, rows))
    results = {}
    for k in run.size((32, 64, 256), (3,)):
        values = torch.rand(rows, k, device=DEVICE)
        indices = torch.rand(rows, features, device=DEVICE).topk(k).indices
        entries = (values.flatten(), csr_reference.row_offsets(indices), indices.flatten())
        z = torch.zeros(rows, features, device=DEVICE).scatter_(1, indices, values)
        torch.testing.assert_close(
            csr.csr_linear(*entries, weight, None), z @ weight, rtol=1e-3, atol=1e-3
        )
        sides: dict[str, Side] = {
            "csr_linear": lambda e=entries: csr.csr_linear(*e, weight, None),
            "sddmm": lambda e=entries: csr.sddmm(grad, weight, *e[1:]),
            "csr_weight_grad": lambda e=entries: csr.csr_weight_grad(*e, grad, features),
            "dense": lambda z=z: z @ weight,
            "dense weight gradient": lambda z=z: z.T @ grad,
            "embedding_bag": lambda i=indices, v=values: F.embedding_bag(
                i, weight, per_sample_weights=v, mode="sum"
            ),
        }
        theirs = _peer()
        if theirs is not None:
            sides["sparsify"] = lambda f=theirs, i=indices, v=values: f(i, v, weight.T)
        results[f"{k} entries in a row"] = compare(run, sides)
    write(run, "decoder", results)


def _peer() -> Callable[..., Tensor] | None:
    """The Triton decoder of the library `sparsify`, if it is installed."""
    try:
        from sparsify.utils import decoder_impl
    except ImportError:
        return None
    return decoder_impl


def selection(run: Run) -> None:
    """The k largest of each row beside `torch.topk`, which promises no order among equals."""
    rows, features = run.size((4096, 32768), (3, 70))
    scores, results = torch.randn(rows, features, device=DEVICE), {}
    for k in run.size((32, 64, 256), (3,)):
        values = torch.empty(rows, k, device=DEVICE)
        indices = torch.empty(rows, k, dtype=torch.int64, device=DEVICE)
        linear_topk.select(scores, None, k, values, indices)
        want = selection_reference.largest(scores, k)[1].sort(1).values
        assert torch.equal(indices, want)
        results[f"k = {k}"] = compare(
            run,
            {
                "select": lambda k=k, v=values, i=indices: linear_topk.select(
                    scores, None, k, v, i
                ),
                "torch.topk": lambda k=k: scores.topk(k),
            },
        )
    write(run, "selection", results)


if __name__ == "__main__":
    parts = {"tests": tests, "thresholds": thresholds, "layers": layers}
    main(__doc__, {**parts, "decoder": decoder, "selection": selection})
