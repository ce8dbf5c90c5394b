"""Private names of other packages: each is listed, and each is still there."""

import ast
import importlib
import importlib.metadata
from pathlib import Path

import pytest
import torch
from torch import nn

import sparsact
from sparsact._common.private_names import PRIVATE_NAMES
from sparsact._common.tested_versions import _minor

pytestmark = pytest.mark.versions

ROOT = Path(sparsact.__file__).parent
TREES = {
    str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8"))
    for file in sorted(ROOT.rglob("*.py"))
    if file.name != "private_names.py"
}


INSTANCES = {
    "torch.Tensor": lambda: torch.zeros(1),
    "torch.nn.Module": nn.Module,
    "torch.nn.DataParallel": lambda: nn.Module()._replicate_for_data_parallel(),
    "torch.compiler.assume_constant_result": lambda: torch.compiler.assume_constant_result(
        lambda: None
    ),
    "torch.compile": lambda: torch.compile(nn.Identity()),
}


def look_up(path: str) -> object:
    """The object of a dotted path; parts of it are modules, or attributes of an instance."""
    owner, instance, attribute = path.partition("().")
    if instance:
        return getattr(INSTANCES[owner](), attribute)
    parts = path.split(".")
    found: object = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:i]))  # raises where there is none
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("entry", PRIVATE_NAMES, ids=lambda entry: entry.name)
def test_is_still_there(entry):
    package = entry.name.partition(".")[0]
    pytest.importorskip(package)
    if _minor(importlib.metadata.version(package)) < _minor(entry.seen[0]):
        pytest.skip(f"seen from {package} {entry.seen[0]} on")
    if entry.name == "transformers.integrations.WandbCallback()._wandb":
        # set where a run is at work: `__init__` needs the package and no network
        pytest.importorskip("wandb")
        assert look_up("transformers.integrations.WandbCallback")()._wandb is not None
        return
    look_up(entry.name)


def parts_of(dotted: str) -> set[str]:
    return {part for part in dotted.replace("()", "").split(".") if is_private(part)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and len(name) > 1


LISTED = {part for entry in PRIVATE_NAMES for part in parts_of(entry.name)}
PATHS = {entry.name for entry in PRIVATE_NAMES}
FOREIGN = {name for name in dir(nn.Module()) if is_private(name)} | LISTED


def names_of(tree: ast.AST) -> set[str]:
    """What a file defines: functions, classes, variables, attributes, parameters, fields."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or "")
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


OWN = set().union(*map(names_of, TREES.values())) | {file.split("/")[-1][:-3] for file in TREES}
STANDARD = {"_replace", "_make", "_fields", "_asdict", "_getframe", "_exit"}  # of Python


def private_uses(tree: ast.AST) -> set[str]:
    """Private names of others in a file: read, overridden, imported, or as a string."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            used |= {node.name} & FOREIGN
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used |= {node.value} & FOREIGN
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("sparsact"):
            used |= set(str(node.module).split(".")) | {alias.name for alias in node.names}
    return {
        name
        for name in used
        if is_private(name) and name not in STANDARD and (name in FOREIGN or name not in OWN)
    }


def inner_modules(tree: ast.AST) -> set[str]:
    """Names from modules of transformers that its documentation does not promise."""
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
            ("transformers.models", "transformers.pytorch_utils")
        ):
            inner |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            path = ast.unparse(node)
            if path.startswith("transformers.models.") and path.count(".") == 4:
                inner.add(path)
            elif path.startswith(("torch.ops.aten.", "_aten.")):
                inner.add("torch.ops.aten." + path.rpartition(".")[2])
    return inner


@pytest.mark.parametrize("file", TREES)
def test_what_a_file_uses_is_listed(file):
    assert private_uses(TREES[file]) <= LISTED
    assert inner_modules(TREES[file]) <= PATHS


def test_the_scan_finds_what_is_listed():
    used = set().union(*map(private_uses, TREES.values()))
    in_docstring = {"_dynamo"}
    assert used == LISTED - in_docstring


@pytest.mark.parametrize(
    "source",
    [
        "tensor._base",
        "torch._C._group_tensors()",
        "from torch._inductor import config",
        "class A(nn.Module):\n def _named_members(self): ...",
        "getattr(module, '_backward_hooks')",
    ],
)
def test_an_unlisted_name_fails(source):
    assert not private_uses(ast.parse(source)) <= LISTED
