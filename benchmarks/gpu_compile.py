"""Triton's kernels compiled for GPUs that need not be here: what each needs, and what it moves.

`python benchmarks/gpu_compile.py compile` compiles every kernel for compute capability 8.0 and 9.0
and writes its registers, spilled bytes and shared memory. It fails if one spills, or needs more
shared memory than these GPUs have. `roofline` counts on paper the bytes that
a call reads and writes and the operations it does, and the least time that an H200 would need for
them. Nothing is timed.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from harness import Run, main
from sparsact.kernels.triton import csr_kernels, gather_kernels, threshold_kernels, topk_kernels
from sparsact.kernels.triton.csr import _AHEAD, _BLOCKS
from sparsact.kernels.triton.gather import choices
from sparsact.kernels.triton.linear_topk import _BLOCKS as _TOPK_BLOCKS
from sparsact.kernels.triton.linear_topk import _KEYS
from sparsact.kernels.triton.threshold_levels import _ACROSS, _BACKWARD_WARPS, _STEPS, _TILE

ARCHITECTURES = (80, 90)
BANDWIDTH = 4.8e12  # bytes a second of an H200, from its data sheet
SHARED_AT_MOST = 99 << 10  # bytes of a program on the smallest GPU of compute capability 8
OPERATIONS = 67e12  # in float32 a second, outside the tensor cores


class Case(NamedTuple):
    """One compilation of a kernel: its types, constants and warps."""

    kernel: object
    types: str  # of the parameters that are no constants, in order
    constants: dict
    warps: int = 4


def _threshold(backward: bool, dtype: str, mode: int, window: int, per_column: bool) -> Case:
    constants = {"MODE": mode, "PER_COLUMN": per_column}
    columns = _ACROSS if per_column else _TILE
    constants |= {"ROWS": _TILE // columns, "COLUMNS": columns}
    x, level, numbers = f"*{dtype}", "*fp32", "i32 i32 i32"
    if not backward:
        types = f"{x} {level} {level} {x} {numbers}"
        return Case(threshold_kernels.forward_tiles, types, constants)
    constants |= {"WINDOW": window, "STEPS": _STEPS if per_column else 1}
    types = f"{x} {x} {level} {level} {x} {level} {level} {numbers} fp32"
    return Case(threshold_kernels.backward_tiles, types, constants, _BACKWARD_WARPS)


def _gather(weight: str, rows: int, choice: dict) -> Case:
    constants = {key: size for key, size in choice.items() if key != "num_warps"}
    constants |= {"PER_INPUT": True, "IS_INT4": weight == "i32", "ROWS": rows}
    types = f"*bf16 *fp32 *{weight} *fp32 i32 i32 i32 i32"
    return Case(gather_kernels.sum_active_inputs, types, constants, choice["num_warps"])


def _decoder(dtype: str, choice: dict) -> Case:
    types = f"*{dtype} *i64 *i64 *{dtype} *{dtype} *{dtype} i32 i32 i32 i32"
    wide = tl.float64 if dtype == "fp64" else tl.float32
    constants = {"HAS_BIAS": True, "WIDE": wide, "AHEAD": _AHEAD, "BLOCK": choice["BLOCK"]}
    return Case(csr_kernels.sum_entries, types, constants, choice["num_warps"])


def _topk(dtype: str, wide: torch.dtype, choice: dict) -> Case:
    value = "fp64" if wide == torch.float64 else "fp32"
    types = f"*{dtype} *{dtype} *{value} *i64 i32 i32"
    constants = {"HAS_BIAS": True, **_KEYS[wide], "BLOCK": choice["BLOCK"]}
    return Case(topk_kernels.select_largest, types, constants, choice["num_warps"])


_SDDMM = {"WIDE": tl.float32, "BLOCK": 1024, "PROGRAMS": 4}
_FINISH = {"HAS_SCALE": True, "HAS_BIAS": True, "SPLITS": 32, "BLOCK": 1024}
CASES = {
    "softshrink, bf16": _threshold(False, "bf16", 0, 0, True),
    "softshrink backward, bf16": _threshold(True, "bf16", 0, 0, True),
    "softshrink backward, one level": _threshold(True, "fp32", 0, 0, False),
    "hardshrink backward, sigmoid": _threshold(True, "fp32", 1, 2, True),
    "jumprelu, fp32": _threshold(False, "fp32", 2, 0, True),
    "jumprelu backward, bf16": _threshold(True, "bf16", 2, 0, True),
    "clip, fp16": _threshold(False, "fp16", 3, 0, True),
    "clip backward, fp32": _threshold(True, "fp32", 3, 0, True),
    "gather_linear, bf16, 1 row": _gather("bf16", 1, choices(1, 4096)[0]),
    "gather_linear, bf16, 8 rows": _gather("bf16", 8, choices(8, 4096)[0]),
    "gather_linear, fp16, 1 row": _gather("fp16", 1, choices(1, 4096)[2]),
    "gather_linear, int8, 1 row": _gather("i8", 1, choices(1, 4096)[0]),
    "gather_linear, int4, 1 row": _gather("i32", 1, choices(1, 4096)[0]),
    "gather_linear, int4, 8 rows": _gather("i32", 8, choices(8, 4096)[0]),
    "gather_linear, finish": Case(
        gather_kernels.finish, "*fp32 *fp32 *fp32 *bf16 i32 i32", _FINISH
    ),
    "csr_linear, fp32": _decoder("fp32", _BLOCKS[0]),
    "csr_linear, bf16": _decoder("bf16", _BLOCKS[0]),
    "csr_linear, bf16, 1024 columns": _decoder("bf16", _BLOCKS[3]),
    "sddmm, fp32": Case(
        csr_kernels.multiply_at_entries,
        "*fp32 *fp32 *i64 *i64 *fp32 i32 i32 i32 i32",
        _SDDMM,
    ),
    "linear_topk, fp32": _topk("fp32", torch.float32, _TOPK_BLOCKS[0]),
    "linear_topk, bf16 scores": _topk("bf16", torch.float32, _TOPK_BLOCKS[2]),
    "linear_topk, fp64": _topk("fp64", torch.float64, _TOPK_BLOCKS[0]),
}


def resources(case: Case, architecture: int) -> dict[str, int]:
    """Registers of a thread, bytes it spills, and shared memory of a program in bytes."""
    names = [name for name in case.kernel.arg_names if name not in case.constants]
    signature = dict(zip(names, case.types.split(), strict=True))
    signature |= dict.fromkeys(case.constants, "constexpr")
    ordered = {name: signature[name] for name in case.kernel.arg_names}
    source = ASTSource(fn=case.kernel, signature=ordered, constexprs=case.constants)
    options = {"num_warps": case.warps, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return _used(compiled.asm["cubin"]) | {"shared": compiled.metadata.shared}


def _used(cubin: bytes) -> dict[str, int]:
    """Registers, and bytes of the stack, which only holds what they have no room for."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found is not None, said
    return {"registers": int(found[1]), "spilled": int(found[2])}


def compile_all(run: Run) -> None:
    """Compile every case for every architecture."""
    names = list(CASES)[:1] if run.tiny else list(CASES)
    found = {
        name: {f"sm_{arch}": resources(CASES[name], arch) for arch in ARCHITECTURES}
        for name in names
    }
    for name, by_gpu in found.items():
        for gpu, used in by_gpu.items():
            if used["spilled"] or used["shared"] > SHARED_AT_MOST:
                raise SystemExit(f"{name} does not fit {gpu}: {used}")
    run.write("gpu_compile", {"triton": triton.__version__, "kernels": found})


def roofline(run: Run) -> None:
    """Bytes and operations at the sizes that `gpu.py` times; not timed."""
    rows, width, k, features = 4096, 16384, 64, 32768
    entries, out, half = rows * k, 2048, 2
    cases = {
        # name: (bytes that must move, operations)
        "learned threshold, forward, bf16": (2 * half * rows * width, 4 * rows * width),
        "learned threshold, backward, bf16": (3 * half * rows * width, 6 * rows * width),
        "gather_linear 4096 to 14336, bf16, 1 row, half active": (
            4096 * 14336 * half / 2,
            4096 * 14336,
        ),
        "gather_linear 4096 to 14336, int4, 1 row, half active": (
            4096 * 14336 * 5 / 8 / 2,
            4096 * 14336 * 2,
        ),
        "csr_linear, 4096 rows, 64 entries, 2048 wide, fp32, no reuse": (
            4 * (entries * out + rows * out) + 12 * entries,
            2 * entries * out,
        ),
        "csr_linear, the same, each weight read once": (
            4 * (features * out + rows * out) + 12 * entries,
            2 * entries * out,
        ),
        "top-k of 4096 x 32768 fp32, 5 readings from the cache": (
            4 * rows * features + 12 * entries,
            5 * 8 * rows * features,
        ),
    }
    run.write(
        "gpu_roofline",
        {
            name: {
                "megabytes": moved / 1e6,
                "million operations": operations / 1e6,
                "least µs, not timed": 1e6 * max(moved / BANDWIDTH, operations / OPERATIONS),
                "bound by": "memory" if moved / BANDWIDTH > operations / OPERATIONS else "compute",
            }
            for name, (moved, operations) in cases.items()
        },
    )


if __name__ == "__main__":
    main(__doc__, {"compile": compile_all, "roofline": roofline})
