"""The scripts for a GPU run at the smallest size, and no kernel spills registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def run(script, *arguments, interpret):
    environment = os.environ | {"TRITON_INTERPRET": "1" if interpret else "0"}
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(not INTERPRETS, reason="the script itself runs these tests on a GPU")
@pytest.mark.parametrize("part", ["thresholds", "layers", "decoder", "selection"])
def test_each_part_runs(part, tmp_path):
    process = run("gpu", part, "--tiny", "--results", tmp_path, interpret=True)
    assert process.returncode == 0, process.stderr
    assert [file.name for file in tmp_path.iterdir()] == [f"gpu_{part}.json"]


def test_one_kernel_compiles_without_a_gpu(tmp_path):
    for part in ("compile", "roofline"):
        process = run("gpu_compile", part, "--tiny", "--results", tmp_path, interpret=False)
        assert process.returncode == 0, process.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "gpu_compile.json",
        "gpu_roofline.json",
    ]


def test_the_table_names_every_kernel():
    recorded = json.loads((RESULTS / "gpu_compile.json").read_text(encoding="utf-8"))
    kernels = recorded["results"]["kernels"]
    script = (ROOT / "benchmarks" / "gpu_compile.py").read_text(encoding="utf-8")
    cases = script[script.index("CASES = {") : script.index("def resources")]
    assert all(f'"{name}"' in cases for name in kernels)
    assert cases.count('": ') == len(kernels)
    for by_gpu in kernels.values():
        assert set(by_gpu) == {"sm_80", "sm_90"}
        assert all(used["spilled"] == 0 for used in by_gpu.values())
