"""Mistakes in what a user hands in: each is one clear error, and nothing is left behind."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.compare.training import engine

X, Y = torch.randn(20, 4), torch.arange(20) % 2
GOOD: dict[str, Any] = {
    "build": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
    "train": (X, Y),
    "validation": (X, Y),
    "epochs": 1,
    "seeds": 1,
    "activations": "softshrink",
}
MODEL = GOOD["build"]()
FRAME = pd.DataFrame({"a": [1.0, 2.0], "word": ["x", "y"], "y": [0, 1]})


def broken(*_: Any) -> Any:
    raise RuntimeError("my own mistake")


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing")


class NotATensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Any:
        return {"text": "none", "value": self.layer(x).sum().item()}


class Hungry(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.empty(2**60).sum())


class Widening:
    """A model that is wider each time."""

    def __init__(self) -> None:
        self.width = 3

    def __call__(self) -> nn.Module:
        self.width += 1
        return nn.Sequential(nn.Linear(4, self.width), nn.ReLU(), nn.Linear(self.width, 2))


def ends(*_: Any) -> Any:
    sys.exit(0)


def hungry(*_: Any) -> Any:
    raise MemoryError


def plain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 2), *layers)


@pytest.fixture(autouse=True)
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step times are measured in other tests."""
    monkeypatch.setattr(engine, "time_steps", lambda *_: {"relu": 1.0})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "build raises": ({"build": broken}, r"build= raised RuntimeError: my own mistake \(test_bad"),
    "build ends the program": ({"build": ends}, r"build= raised SystemExit: 0 \(test_bad"),
    "build needs arguments": ({"build": lambda width: 3}, "missing 1 required .* 'width'$"),
    "build grows": ({"build": Widening()}, "build= makes models of different sizes"),
    "build needs memory": (
        {"build": lambda: nn.Linear(2**30, 2**30)},
        r"build= needs more memory than there is \(test_bad",
    ),
    "forward needs memory": ({"build": Hungry}, "the model on a batch of train= needs more memory"),
    "loss needs memory": ({"loss": hungry}, "loss= needs more memory"),
    "build is a model": ({"build": MODEL}, "build= is a model; it must be a function"),
    "build is a number": ({"build": 3}, "build= must be a function"),
    "build returns a number": ({"build": lambda: 3}, "build= must return a module, got int"),
    "build returns one model": ({"build": lambda: MODEL}, "the same parameters each time"),
    "build shares a part": (
        {"build": lambda: nn.Sequential(MODEL[0], nn.ReLU(), nn.Linear(3, 2))},
        "the same parameters each time",
    ),
    "no parameters": ({"build": nn.ReLU}, "without parameters"),
    "no activation": ({"build": plain()}, "without an activation to compare"),
    "only a gate": ({"build": plain(nn.Sigmoid())}, "gates are left alone: 1"),
    "only the output": ({"build": plain(nn.ReLU())}, "the activation of the output is left"),
    "forward raises": ({"build": Broken}, r"train= raised KeyError: 'no such thing' \(test_bad"),
    "no tensor": ({"build": NotATensor}, "loss= is needed: the model returns nothing"),
    "wrong width": ({"train": (X[:, :3], Y)}, "the model on a batch of train= raised RuntimeError"),
    "wrong width later": ({"validation": (X[:, :3], Y)}, "the model on validation= raised"),
    "wrong width in batch 2": (
        {"train": [(X, Y), (X[:, :3], Y)]},
        "the model on train= raised RuntimeError",
    ),
    "wrong width in the test part": ({"test": (X[:, :3], Y)}, "the model on test= raised"),
    "a class that is only tested": ({"test": (X, Y + 5)}, "the model on test= raised IndexError"),
    "a class without an output": ({"train": (X, 2 * Y)}, "loss= raised IndexError: Target 2 is"),
    "one class": ({"train": (X, 0 * Y)}, "train= has one class only"),
    "not a number in the data": ({"train": (X / 0 * 0, Y)}, "loss= is nan before the training"),
    "an empty batch": ({"train": [(X, Y), (X[:0], Y[:0])]}, "batch 2 of train= has no samples"),
    "no target": ({"train": (X,)}, "the inputs themselves: no target is there"),
    "a target of None": ({"train": (X, None)}, "the inputs themselves: no target is there"),
    "no target in a dict": ({"train": [{"input": X}]}, "the target is nothing"),
    "empty arrays": ({"train": (X[:0], Y[:0])}, "train= is empty"),
    "no batches": ({"validation": []}, "validation= has no batches"),
    "empty data set": ({"train": TensorDataset(X[:0], Y[:0])}, "train= is empty"),
    "lengths": ({"train": (X, Y[:5])}, r"train= has arrays of different lengths: \[5, 20\]"),
    "a generator": ({"train": (b for b in [(X, Y)])}, "can be read only once"),
    "a path": ({"train": "data.csv"}, "train= must be arrays, a data frame"),
    "nothing": ({"validation": None}, "validation= must be arrays, a data frame"),
    "words": ({"train": (np.array(["a"] * 20), Y)}, "train= holds <U1, no numbers"),
    "a batch of words": ({"train": ["a", "b"]}, "a batch of train= must be a tensor"),
    "unknown keys": ({"train": [{"a": X, "b": Y}]}, "takes none of them"),
    "another structure": ({"train": [(X, Y), (X, X, Y)]}, "batch 2 of train= is"),
    "another rank": ({"train": [(X, Y), (X[None], Y)]}, "batch 2 of train= is"),
    "a tuple, then a dict": (
        {"train": [(X, Y), {"input": X, "labels": Y}]},
        "batch 2 of train= is {input",
    ),
    "a batch, then none": ({"train": [(X, Y), None]}, "batch 2 of train= is NoneType"),
    "another dtype": ({"train": [(X, Y), (X, Y.float())]}, "batch 2 of train= is"),
    "another key": (
        {"validation": [{"input": X, "labels": Y}, {"input": X}]},
        "batch 2 of validation= is",
    ),
    "frame without target": ({"train": FRAME}, "name the column to predict with target="),
    "frame with another target": (
        {"train": FRAME, "target": "z"},
        "unknown target= column 'z'",
    ),
    "frame with words": ({"train": FRAME, "target": "y"}, "column 'word' holds"),
    "a new class": (
        {"train": (X[:2], pd.Series(["a", "b"])), "validation": (X[:1], pd.Series(["c"]))},
        "validation= has the class 'c'",
    ),
    "shapes": ({"train": (X, torch.randn(20, 5))}, r"loss= is needed: .* of shape \(20, 5\)"),
    "loss raises": ({"loss": broken}, r"loss= raised RuntimeError: my own mistake"),
    "loss is a vector": (
        {"loss": lambda o, t: o.sum(1)},
        r"loss= must return a scalar, got Tensor of shape \(20,\)",
    ),
    "loss is a number": ({"loss": lambda o, t: 1.0}, "loss= must return a scalar, got float"),
    "loss without gradient": (
        {"loss": lambda o, t: o.detach().mean()},
        "loss= returns a number without a gradient",
    ),
    "score raises": ({"score": broken}, "score= raised RuntimeError"),
    "score is a word": ({"score": lambda p, t: "good"}, "score= must return a number, got str"),
    "score is a vector": (
        {"score": lambda p, t: p},
        r"score= must return a number, got Tensor of shape \(20, 2\)",
    ),
    "score is complex": ({"score": lambda p, t: 1j}, "score= must return a number, got complex"),
    "score is a list": ({"score": lambda p, t: [0.5]}, "score= must return a number, got list"),
    "score is nothing": ({"score": lambda p, t: None}, "score= must return a number, got NoneType"),
    "score is empty": ({"score": lambda p, t: p[:0, 0]}, r"got Tensor of shape \(0,\)"),
    "score is infinite": ({"score": lambda p, t: np.inf}, "score= is not a finite number"),
    "score takes one argument": ({"score": lambda p: 0.5}, "score= raised TypeError"),
    "score is nan": ({"score": lambda p, t: float("nan")}, "score= is not a finite number"),
    "unknown score": ({"score": "acuracy"}, "did you mean 'accuracy'"),
    "score of another task": ({"score": "r2"}, "score=r2 does not suit this task"),
    "score is no function": ({"score": 3}, "score= must be a name or a function"),
    "constant target": (
        {"train": (X, torch.ones(20, 2)), "validation": (X, torch.ones(20, 2))},
        "score= is not a finite number",
    ),
    "optimizer raises": ({"optimizer": broken}, "optimizer= raised RuntimeError"),
    "optimizer is none": ({"optimizer": lambda p: 3}, "optimizer= must return an optimizer"),
    "optimizer of another model": (
        {"optimizer": lambda p: torch.optim.SGD(MODEL.parameters(), lr=0.1)},
        "optimizer= must take the parameters that it is given",
    ),
    "loss is complex": ({"loss": lambda o, t: o.sum() * 1j}, "loss= must return a real number"),
    "optimizer is unknown": ({"optimizer": "adamax"}, "optimizer= is a function or one of"),
    "rates of an own optimizer": (
        {"optimizer": torch.optim.SGD, "lr": "auto"},
        "lr=auto needs the built-in optimizers",
    ),
    "select matches nothing": ({"select": "blocks.*"}, "no module matches 'blocks"),
    "select is empty": ({"select": []}, "select= is empty"),
    "activation is unknown": ({"activations": "rellu"}, "did you mean 'relu'"),
    "activation is a lambda": ({"activations": lambda: nn.Tanh()}, "a lambda, which has no name"),
    "activation is a module": ({"activations": {"a": nn.Tanh()}}, "needs a class or function"),
    "activation makes a number": ({"activations": {"a": lambda: 3}}, "must make a module, got int"),
    "activation raises": ({"activations": {"a": broken}}, "'a' of activations= cannot be built"),
    "activation is not there": ({"activations": "nowhere:Thing"}, "cannot be imported"),
    "activation twice": ({"activations": {"relu": nn.Tanh}}, "has two that are called 'relu'"),
    "activation is a list of numbers": ({"activations": [3]}, "takes names, classes"),
    "penalty": ({"penalty": "l3=1"}, "unknown penalty= kind 'l3'"),
    "penalty with a schedule": (
        {"penalty": sa.L1(sa.LinearWarmup(1e-3, 10))},
        "not a schedule",
    ),
    "no epochs": ({"epochs": 0}, "epochs= must be at least 1"),
    "a rate in words": ({"lr": "fast"}, "lr= must be a number, got 'fast'"),
    "no jobs": ({"jobs": 0}, "jobs= must be at least 1"),
    "sweep and density": (
        {"sweep": "lambd=0.1:1:2", "target_density": 0.1},
        "exclude each other",
    ),
    "device": ({"device": "nowhere"}, "device=nowhere cannot be used"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_found_before_anything_is_written(case: str, tmp_path: Path) -> None:
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message):
        sa.compare_activations(**{**GOOD, **changes}, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_users_exception_is_the_cause() -> None:
    with pytest.raises(InputError) as caught:
        sa.compare_activations(**{**GOOD, "build": broken})
    assert type(caught.value.__cause__) is RuntimeError
    assert caught.value.__cause__.__traceback__ is not None


def test_batches_that_change_in_a_later_pass() -> None:
    class Changing:
        passes = 0

        def __iter__(self) -> Iterator[Any]:
            self.passes += 1
            yield (X, Y) if self.passes < 7 else (X, X, Y)

    with pytest.raises(InputError, match=r"batch 1 of train= is .* but the first is"):
        sa.compare_activations(**{**GOOD, "train": Changing(), "epochs": 9})


def test_a_directory_in_use_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        sa.compare_activations(**GOOD, out=tmp_path)
    with pytest.raises(InputError, match="holds no run"):
        sa.compare_activations(**GOOD, out=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_setting_that_diverges_is_recorded() -> None:
    result = sa.compare_activations(**{**GOOD, "activations": "softshrink", "lr": 1e30})
    assert result.table["diverged"].iloc[:2].tolist() == [1, 1]
    assert result.best is None


def test_too_little_memory_in_a_training_is_one_line(tmp_path: Path) -> None:
    calls: list[int] = []

    def hungry(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        size = 2**60 if len(calls) > 12 else 1
        return nn.functional.cross_entropy(output, target) + torch.empty(size).sum() * 0

    options = {**GOOD, "loss": hungry, "epochs": 9, "out": tmp_path / "run"}
    with pytest.raises(InputError, match="not enough memory for a training") as caught:
        sa.compare_activations(**options)
    assert caught.value.__cause__ is not None


def test_a_mistake_in_the_middle_keeps_its_own_traceback(tmp_path: Path) -> None:
    calls: list[int] = []

    def late(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 300:
            raise KeyError("late")
        return nn.functional.cross_entropy(output, target)

    options = {**GOOD, "loss": late, "epochs": 400, "out": tmp_path / "run"}
    with pytest.raises(KeyError, match="late"):
        sa.compare_activations(**options)
