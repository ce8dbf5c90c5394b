"""A stage imports only from the stages to its left; the products may use them all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sparsact

ROOT = Path(sparsact.__file__).parent
STAGES = [
    "kernels",
    "_thresholds",
    "nn",
    "hooks",
    "penalties",
    "meters",
    "calibration",
    "inference",
]
PRODUCTS = {"compare", "sae", "denoise", "llm", "cli"}
MODULES = sorted(ROOT.rglob("*.py"))


def imported_rooms(file: Path) -> set[str]:
    """The rooms of sparsact that a file imports from."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("sparsact.")}
    return rooms


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_import_order(file):
    room, imports = room_of(file), imported_rooms(file) - {room_of(file)}
    if room in STAGES:
        allowed = {*STAGES[: STAGES.index(room)], "_common", "text"}
    elif room == "report":
        allowed = {"_common"}
    elif room == "functional":
        allowed = {"_thresholds"}
    elif room == "optim":
        allowed = {"_thresholds", "nn", "hooks", "penalties"}
    elif room == "text":
        allowed = {"_common"}
    elif room == "pruning":
        allowed = {"_common", "hooks", "optim"}
    elif room == "integrations":
        allowed = {"_common", "penalties", "meters"}
    elif room == "_common":
        allowed = set()
    else:
        assert room in PRODUCTS | {"__init__"}, f"a new room: {room}"
        return
    assert imports <= allowed


def test_the_walk_finds_the_package():
    rooms = {room_of(file) for file in MODULES}
    assert {
        "_thresholds",
        "nn",
        "hooks",
        "penalties",
        "meters",
        "inference",
        "compare",
        "report",
    } <= rooms


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"sklearn", "plotly", "matplotlib", "rich", "tyro", "PIL", "numba", "transformers"}
    heavy |= {"lightning", "torch_pruning", "tensorboard", "wandb", "accelerate"}
    code = f"import sys, sparsact; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    baseline = subprocess.run(
        [sys.executable, "-c", code.replace("sparsact", "torch")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == baseline.stdout
