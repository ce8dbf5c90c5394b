"""How long the first calls of a new process take, and how long any call takes beyond its work.

`python benchmarks/first_calls.py` starts a process for each operation and prints the seconds of its
first call and the microseconds of later ones, on inputs so small that only the call itself counts.
It also runs with the sources of an older version in PYTHONPATH, for instance with those that
compiled kernels at the first call: set NUMBA_CACHE_DIR to an empty directory there.
"""

import json
import statistics
import subprocess
import sys

from harness import Run, main

IMPORT = """
import time; import torch; torch.set_num_threads(2)
start = time.perf_counter(); import sparsact; print(time.perf_counter() - start)
"""
FIRST = """
import json, statistics, time
import torch; torch.set_num_threads(2)
from sparsact import kernels
import sparsact as sa, sparsact.functional as SF
{setup}
def call():
    return {call}
def seconds():
    start = time.perf_counter(); call(); return time.perf_counter() - start
first = seconds()
print(json.dumps([first, statistics.median(seconds() for _ in range({repeats}))]))
"""
ROWS = "x, w = torch.randn(64, 16), torch.randn(32, 16); b = torch.ones(32)"
CALLS = {
    "gather_linear": (
        "from sparsact.inference import SparseLinear; x = torch.randn(1, 256)\n"
        "layer = SparseLinear(torch.nn.Linear(256, 256), 0.5); torch.set_grad_enabled(False)",
        "layer(x)",
    ),
    "linear_topk": (ROWS, "kernels.linear_topk(x, w, None, 4)"),
    "linear_threshold": (ROWS, "torch.ops.sparsact.linear_threshold(x, w, None, -b, b)"),
    "csr_linear": (
        ROWS + "; v, i = kernels.linear_topk(x, w, None, 4)",
        "kernels.csr_linear((v, i), w)",
    ),
    "threshold_compress": (ROWS, "torch.ops.sparsact.threshold_compress(x, b[:16])"),
    "softshrink": (
        "x, level = torch.randn(64, 16), torch.full((16,), 0.5)",
        "torch.ops.sparsact.softshrink(x, level)",
    ),
    "softshrink_backward": (
        "x, level = torch.randn(64, 16), torch.full((16,), 0.5)",
        "torch.ops.sparsact.softshrink_backward(x, x, level)",
    ),
    "denoise_wavelet": ("x = torch.randn(64, 64)", "sa.denoise_wavelet(x)"),
    "sparse_code": (
        "x, d = torch.randn(8, 16), torch.nn.functional.normalize(torch.randn(32, 16))",
        "sa.coding.sparse_code(x, d, sa.L1(0.5), method='cd')",
    ),
}


def python(code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def calls(run: Run) -> None:
    python(IMPORT)  # the files are in memory afterwards
    imports = statistics.median(float(python(IMPORT)) for _ in range(run.size(5, 1)))
    rows = {}
    for name in run.size(list(CALLS), ["gather_linear"]):
        setup, call = CALLS[name]
        first, later = json.loads(
            python(FIRST.format(setup=setup, call=call, repeats=run.size(300, 3)))
        )
        rows[name] = {"first call, s": round(first, 4), "later calls, µs": round(1e6 * later, 1)}
    run.write("first_calls", {"import sparsact after torch, s": round(imports, 2), "calls": rows})


if __name__ == "__main__":
    main(__doc__, {"calls": calls})
