"""A Python file that says what to compare."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sparsact._common.atomic import write_text
from sparsact._common.errors import InputError, MissingInputError
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.problems.model_problem import UserTask, model_problem
from sparsact.compare.problems.problem import Problem
from sparsact.compare.problems.user_code import user_code
from sparsact.compare.settings.training_plan import Plan

SUFFIX = ".py"
NEEDED = ("build", "train", "validation")
OPTIONAL = ("test", "select", "loss", "score", "optimizer")
FLAGS = {
    *("data", "target", "activations", "lambd", "topk", "penalty", "weight_penalty", "sweep"),
    *("target_density", "epochs", "batch_size", "lr", "optimizer", "clip_grad", "seeds", "device"),
    *("out", "resume", "score", "jobs", "backend", "tolerance", "frontier"),
}
"""The arguments of a comparison that a task file leaves to the command line."""


def task_problem(plan: Plan) -> Problem:
    """Read the task file of a plan, and try all that it defines.

    Raises:
        InputError: the file does not exist, does not run, or lacks a name; or an argument is given
            that the file defines.
    """
    config, path = plan.config, Path(plan.config.data)
    for field in fields(config):
        if field.name not in FLAGS and getattr(config, field.name) != field.default:
            raise InputError(f"{field.name}= does not apply to {path}, which defines the network")
    problem = model_problem(plan, _task(_run(path), path, config))
    text = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return replace(problem, fingerprint=f"{problem.fingerprint}-{text}")


def write_example(path: Path) -> None:
    """Write a task file with comments that runs as it is.

    Raises:
        InputError: the file exists, or is not called ``.py``.
        OutputError: it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"new= makes a Python file: call it {path.with_suffix(SUFFIX)}")
    if path.exists():
        raise InputError(f"{path} exists already: choose another name for new=")
    example = Path(__file__).with_name("example_task.py").read_text(encoding="utf-8")
    write_text(path, example.replace("task.py", path.name))


def _run(path: Path) -> ModuleType:
    """The module that the file defines; other files beside it can be imported in it."""
    if not path.is_file():
        raise MissingInputError(f"no such file: {path}")
    module = ModuleType(f"sparsact_task_{path.stem}")
    module.__file__ = str(path)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[module.__name__] = module
    try:
        with user_code(str(path)):
            exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    finally:  # other processes cannot import it, so they get what it defines by value
        del sys.modules[module.__name__]
    return module


def _task(module: ModuleType, path: Path, config: CompareConfig) -> UserTask:
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise InputError(
            f"{path} must define {', '.join(NEEDED)}; it lacks {', '.join(missing)} "
            "(sparsact compare --new writes an example)"
        )
    own: dict[str, Any] = {name: getattr(module, name, None) for name in OPTIONAL}
    if config.score != CompareConfig.score:
        if own["score"] is not None:
            raise InputError(f"score= does not apply to {path}, which defines a score")
        own["score"] = config.score
    if config.optimizer != CompareConfig.optimizer:
        if own["optimizer"] is not None:
            raise InputError(f"optimizer= does not apply to {path}, which defines an optimizer")
        own["optimizer"] = config.optimizer
    for name in ("train", "validation", "test"):
        own[name] = _data(f"{name} of {path}", getattr(module, name, None))
    return UserTask(build=module.build, **own, target=config.target, name=path.stem)


def _data(what: str, value: Any) -> Any:
    """Data, or what a function of them returns."""
    if not callable(value) or isinstance(value, Iterable) or hasattr(value, "__getitem__"):
        return value
    with user_code(what):
        return value()
