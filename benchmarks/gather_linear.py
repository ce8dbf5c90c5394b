"""Skipping inactive inputs against the best dense linear layer: cold weights, two threads.

`python benchmarks/gather_linear.py table 4096 14336` measures the claims for one size. `curve`
measures the speed-up against sparsity for 1, 2, 4 and 8 rows, and `plot` draws it. `rows` finds the
number of rows from which the dense product of the same weight is faster. `small` measures a layer
whose weights stay in the cache.
"""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import Run, main
from sparsact.inference import SparseLinear
from sparsact.kernels import gather_linear
from sparsact.kernels.cpu.gather import Product
from sparsact.kernels.gather_dense import dense

CACHE_BYTES = 32 << 20
ZEROS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
TINY = (64, 96)
Side = Callable[[], object]


class Copies(list):
    """Copies of one weight, which all sides use in turn."""

    def __init__(self, copies: list) -> None:
        super().__init__(copies)
        self._turns = cycle(copies)

    def next(self) -> object:
        return next(self._turns)


class Weights:
    """Copies of one weight in every dtype, of each dtype several times the last-level cache."""

    def __init__(self, run: Run, inputs: int, outputs: int) -> None:
        inputs, outputs = run.size((inputs, outputs), TINY)
        self._bytes = run.size(4 * CACHE_BYTES, 0)
        linear = nn.Linear(inputs, outputs, bias=False)
        self.inputs, self.outputs = inputs, outputs
        self.float32 = self._copies(linear.weight.detach())
        self.bfloat16 = self._copies(linear.weight.detach().bfloat16())
        self.sparse = self._layers(linear, "bfloat16", 2)
        self.int8 = self._layers(linear, "int8", 1)

    def _count(self, bytes_each: int) -> int:
        return max(2, -(-self._bytes // bytes_each))

    def _copies(self, weight: Tensor) -> Copies:
        return Copies([weight.clone() for _ in range(self._count(weight.nbytes))])

    def _layers(self, linear: nn.Linear, dtype: str, size: int) -> Copies:
        count = self._count(self.inputs * self.outputs * size)
        return Copies([SparseLinear(linear, 0.0, dtype=dtype) for _ in range(count)])


def rotate(copies: Copies, function: Callable[[object], object]) -> Side:
    """Make a side that uses the next copy at every call."""
    return lambda: function(copies.next())


def quantile(x: Tensor, zeros: float) -> Tensor:
    """Return the threshold that makes this share of `x` inactive."""
    return (
        x.abs().flatten().kthvalue(round(zeros * x.numel())).values if zeros else torch.tensor(0.0)
    )


def dense_sides(weights: Weights, x: Tensor) -> dict[str, Side]:
    narrow = x.bfloat16()
    return {
        "dense float32": rotate(weights.float32, lambda weight: F.linear(x, weight)),
        "dense bfloat16": rotate(weights.bfloat16, lambda weight: F.linear(narrow, weight)),
    }


def skipping(layers: Copies, x: Tensor, level: Tensor) -> Side:
    return rotate(
        layers,
        lambda layer: gather_linear(x, layer.weight_t, level, scale=layer.scale),
    )


def check(weights: Weights, x: Tensor, level: Tensor) -> None:
    kept = torch.where(x.abs() > level, x, 0)
    expected = F.linear(kept, weights.bfloat16[0].float())
    output = gather_linear(x, weights.sparse[0].weight_t, level)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    layer = weights.int8[0]
    output = gather_linear(x, layer.weight_t, level, scale=layer.scale)
    expected = kept @ (layer.weight_t * layer.scale)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


def compiled_reads() -> dict[str, Callable[..., None]]:
    """Compile ``plain_read.cpp`` for this CPU: functions that only read memory."""
    library = Path(tempfile.mkdtemp()) / "plain_read.so"
    options = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
    source = Path(__file__).with_name("plain_read.cpp")
    subprocess.run(["c++", *options, source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    reads = {"streaming read": loaded.read_one_stream, "eight streams": loaded.read_eight_streams}
    for read in reads.values():
        read.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    return reads


def streaming_sides(weights: Weights, share: float) -> dict[str, Side]:
    """Make sides that read as many bytes as skipping does."""
    size = int(weights.sparse[0].weight_t.numel() * share) // 2  # pairs of bfloat16
    threads = torch.get_num_threads()
    sums = torch.zeros(threads, dtype=torch.int64)

    def side(read: Callable[..., None]) -> Side:
        def read_layer(layer: SparseLinear) -> None:
            read(threads, layer.weight_t.data_ptr(), size, sums.data_ptr())

        return rotate(weights.sparse, read_layer)

    return {name: side(read) for name, read in compiled_reads().items()}


def table(run: Run, inputs: int = 4096, outputs: int = 14336) -> None:
    weights = Weights(run, inputs, outputs)
    x = torch.randn(1, weights.inputs)
    sides = {**dense_sides(weights, x), **streaming_sides(weights, 0.5)}
    sides["SparseLinear, 0% zeros"] = rotate(weights.sparse, lambda layer: layer(x))
    for zeros in (0.5, 0.75, 0.9):
        level = quantile(x, zeros)
        check(weights, x, level)
        sides[f"bfloat16, {zeros:.0%} zeros"] = skipping(weights.sparse, x, level)
        sides[f"int8, {zeros:.0%} zeros"] = skipping(weights.int8, x, level)
    times = run.alternate(sides)
    best = min(times["dense float32"], times["dense bfloat16"])
    half = times["bfloat16, 50% zeros"]
    results = {
        "ms": {name: round(value, 3) for name, value in times.items()},
        "times faster than the best dense": {
            name: round(best / value, 2) for name, value in times.items() if "zeros" in name
        },
        "gigabytes per second at 50% zeros": round(
            weights.inputs * weights.outputs / half / 1e6, 1
        ),
        "of a plain streaming read": round(times["streaming read"] / half, 2),
        "of a read in eight streams": round(times["eight streams"] / half, 2),
    }
    run.write(f"gather_linear_{inputs}x{outputs}", results)


def curve(run: Run, inputs: int = 4096, outputs: int = 4096) -> None:
    weights = Weights(run, inputs, outputs)
    results = {}
    for rows in (1, 2, 4, 8):
        x = torch.randn(rows, weights.inputs)
        sides = dense_sides(weights, x)
        for zeros in ZEROS:
            sides[f"bfloat16 {zeros}"] = skipping(weights.sparse, x, quantile(x, zeros))
            sides[f"int8 {zeros}"] = skipping(weights.int8, x, quantile(x, zeros))
        times = run.alternate(sides, repeats=15)
        best = min(times["dense float32"], times["dense bfloat16"])
        results[rows] = {
            "best dense ms": round(best, 3),
            **{
                dtype: {zeros: round(best / times[f"{dtype} {zeros}"], 2) for zeros in ZEROS}
                for dtype in ("bfloat16", "int8")
            },
        }
    run.write(f"gather_linear_curve_{inputs}x{outputs}", results)


def rows(run: Run, inputs: int = 4096, outputs: int = 4096) -> None:
    weights, results = Weights(run, inputs, outputs), {}
    for count in (16, 32, 64, 128):
        x = torch.randn(count, weights.inputs)
        level = quantile(x, 0.5)
        sides = {
            "skipping": rotate(weights.sparse, skipping_all_rows(x, level)),
            "dense, same weight": rotate(weights.sparse, dense_all_rows(x, level)),
            "dense float32": dense_sides(weights, x)["dense float32"],
        }
        times = run.alternate(sides, repeats=15)
        results[count] = {name: round(ms, 2) for name, ms in times.items()}
    run.write(f"gather_linear_rows_{inputs}x{outputs}", results)


def skipping_all_rows(x: Tensor, level: Tensor) -> Callable[[SparseLinear], object]:
    """Skip inactive inputs for any number of rows."""
    return lambda layer: Product([layer.weight_t], level, [None], [None]).skipping(x, x.shape[1])


def dense_all_rows(x: Tensor, level: Tensor) -> Callable[[SparseLinear], object]:
    """Use the dense product for any number of rows."""
    return lambda layer: dense(x, [layer.weight_t], level, [None], [None])


def small(run: Run, inputs: int = 576, outputs: int = 1536) -> None:
    size = run.size((inputs, outputs), TINY)
    linear, x = nn.Linear(*size, bias=False), torch.randn(1, size[0])
    sides: dict[str, Side] = {"dense float32": lambda: F.linear(x, linear.weight)}
    for dtype in ("float32", "bfloat16", "int8"):
        layer = SparseLinear(linear, quantile(x, 0.5), dtype=dtype)
        sides[f"SparseLinear {dtype}, 50% zeros"] = lambda layer=layer: layer(x)
    times = run.alternate(sides, repeats=501)
    microseconds = {name: round(1e3 * ms, 1) for name, ms in times.items()}
    run.write(f"gather_linear_small_{inputs}x{outputs}", {"microseconds": microseconds})


def plot(run: Run, inputs: int = 4096, outputs: int = 4096) -> None:
    import matplotlib.pyplot as plt

    name = f"gather_linear_curve_{inputs}x{outputs}"
    data = run.read(name)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, dtype in zip(axes, ("bfloat16", "int8"), strict=True):
        for count, curves in data["results"].items():
            zeros = [100 * float(share) for share in curves[dtype]]
            label = "1 row" if count == "1" else f"{count} rows"
            axis.plot(zeros, list(curves[dtype].values()), marker="o", markersize=3, label=label)
        axis.axhline(1, color="0.5", linewidth=1)
        axis.set(yscale="log", xlabel="zeros in the input (%)", title=f"{dtype} weights")
        axis.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1×", "2×", "5×", "10×", "20×", "50×", "100×"])
        axis.minorticks_off()
        axis.grid(color="0.9")
    axes[0].set_ylabel("speed against the best dense")
    axes[0].legend(frameon=False)
    figure.suptitle(
        f"gather_linear, {inputs} → {outputs}, {data['environment']['threads']} threads, "
        f"{data['environment']['cpu']}"
    )
    figure.savefig(run.results / f"{name}.png", dpi=150)


if __name__ == "__main__":
    with torch.inference_mode():
        main(
            __doc__,
            {"table": table, "curve": curve, "rows": rows, "small": small, "plot": plot},
            threads=2,
        )
