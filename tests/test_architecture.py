"""A stage imports only from the stages to its left; the products may use them all."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import sparsact

ROOT = Path(sparsact.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

_PARTS = {"_common", "hooks", "kernels", "thresholds", "nn", "functional"}
_PARTS |= {"penalties", "optim", "control", "meters", "text", "report"}
ROOMS: dict[str, set[str]] = {
    "_version": set(),
    "_common": {"_version"},
    "kernels": {"_common"},
    "hooks": {"_common"},
    "thresholds": {"kernels", "_common"},
    "functional": {"thresholds"},
    "penalties": {"pruning", "thresholds", "hooks", "_common"},
    "nn": {"thresholds", "penalties"},
    "control": {"penalties", "thresholds", "hooks", "_common"},
    "optim": {"penalties", "thresholds", "hooks", "_common"},
    "meters": {"hooks", "_common"},
    "pruning": {"thresholds", "hooks", "_common"},
    "text": {"_common"},
    "report": {"_common"},
    "coding": {"penalties", "nn", "thresholds", "kernels", "_common"},
    "selection": {"control", "nn", "penalties", "_common"},
    "calibration": {"text", "thresholds", "hooks", "_common"},
    "inference": {"calibration", "kernels", "hooks", "_common"},
    "evaluation": {"inference", "calibration", "text", "hooks", "report", "_common"},
    "integrations": {"penalties", "meters", "_common"},
    "compare": _PARTS | {"inference"},
    "sae": _PARTS,
    "denoise": _PARTS | {"coding"},
    "cli": _PARTS | {"calibration", "inference", "evaluation", "compare", "sae", "denoise"},
}
"""What each room may import, besides itself; ``__init__`` imports the public names."""


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
    room = room_of(file)
    if room == "__init__":
        return
    assert room in ROOMS, f"a new room: {room}"
    assert imported_rooms(file) - {room} <= ROOMS[room]


def module_name(file: Path) -> str:
    parts = ["sparsact", *file.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(file: Path, known: set[str]) -> set[str]:
    """The modules of sparsact that a file imports anywhere, lazily or not."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules & known


def test_no_import_cycle():
    known = {module_name(file) for file in MODULES}
    graph = {
        module_name(file): imported_modules(file, known) - {module_name(file)} for file in MODULES
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_rooms_form_no_cycle():
    graphlib.TopologicalSorter(ROOMS).prepare()


def test_the_walk_finds_the_package():
    rooms = {room_of(file) for file in MODULES}
    assert {
        "thresholds",
        "nn",
        "hooks",
        "penalties",
        "meters",
        "inference",
        "compare",
        "report",
    } <= rooms


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"sklearn", "plotly", "matplotlib", "rich", "tyro", "PIL", "transformers"}
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
