"""``sparsact compare task.py``, in this process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparsact._common.errors import InputError
from sparsact.cli import main
from sparsact.compare import load_task_model
from sparsact.compare.training import engine

Run = Callable[..., int]
GOOD = """
import torch
from torch import nn

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

train = validation = X, Y
"""
QUICK = ("--epochs", "1", "--seeds", "1", "--activations", "softshrink")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(engine, "time_steps", lambda *_: {"relu": 1.0})
    monkeypatch.setattr(sys, "path", list(sys.path))

    def start(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsact", "compare", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return start


def test_the_example_runs_as_it_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--new", "mine.py") == 0
    assert "sparsact compare mine.py" in capsys.readouterr().out
    assert run("mine.py", *QUICK, "--out", "run") == 0
    shown = capsys.readouterr().out
    assert "Activations of mine" in shown
    assert "report: run/report.html" in shown
    tensors = load_file("run/model.safetensors")
    model = load_task_model("run")
    assert not model.training
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())
    text = Path("mine.py").read_text()
    Path("mine.py").write_text(
        text.replace("8, 16", "8, 12").replace("(16)", "(12)").replace("16 * 2", "12 * 2")
    )
    with pytest.raises(InputError, match="does not fit the network of mine"):
        load_task_model("run")
    assert run("--new", "mine.py") == 2
    assert "mine.py exists already" in capsys.readouterr().err


def test_a_run_is_resumed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("task.py").write_text(GOOD)
    assert run("task.py", *QUICK, "--out", "run") == 0
    results = Path("run/results.jsonl")
    whole = results.read_text()
    results.write_text(whole.splitlines()[0] + "\n")
    assert run("--resume", "run") == 0
    assert results.read_text() == whole
    Path("task.py").write_text(GOOD + "# changed\n")
    assert run("--resume", "run") == 2
    assert "the data task.py changed since run began" in capsys.readouterr().err


def test_all_that_a_file_defines_is_used(run: Run) -> None:
    Path("beside.py").write_text("WIDTH = 8\n")
    Path("task.py").write_text(
        GOOD.replace("8", "WIDTH").replace(
            "import torch\n", "from beside import WIDTH\nimport torch\n", 1
        )
        + """
def test():
    return X[:20], Y[:20]

select = nn.Tanh

def loss(output, target):
    return nn.functional.cross_entropy(output, target)

def score(predictions, targets):
    return 0.25

def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.1)
"""
    )
    assert run("task.py", *QUICK, "--out", "run") == 0
    records = [json.loads(line) for line in Path("run/results.jsonl").read_text().splitlines()]
    assert [record["test_score"] for record in records] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (None, (), "no such file: task.py"),
        ("", (), "task.py must define build, train, validation; it lacks build, train"),
        (GOOD.replace("train = ", ""), (), "it lacks train"),
        ("def build(:", (), "task.py raised SyntaxError"),
        ("import nothing_of_that_name", (), "task.py raised ModuleNotFoundError"),
        ("x = 1\ny = 1 / 0", (), "ZeroDivisionError: division by zero (task.py, line 2)"),
        (
            GOOD.replace("return nn", "raise ValueError('too wide')\n    return nn"),
            (),
            "build= raised ValueError: too wide (task.py, line 9)",
        ),
        (GOOD + "\ndef test():\n    raise OSError('gone')", (), "test of task.py raised OSError"),
        (GOOD, ("--hidden", "3"), "--hidden does not apply to task.py"),
        (GOOD, ("--task", "regress"), "--task does not apply to task.py"),
        (GOOD, ("--loss", "smooth_l1"), "--loss does not apply to task.py"),
        (GOOD, ("--score", "r2"), "--score r2 does not suit this task"),
        (GOOD + "\nscore = 'f1'", ("--score", "auc"), "--score does not apply to task.py"),
        (
            GOOD + "\noptimizer = torch.optim.SGD",
            ("--optimizer", "sgd"),
            "--optimizer does not apply to task.py",
        ),
        (GOOD + "\nimport sys\nsys.exit(0)", (), "task.py raised SystemExit: 0 (task.py, line 14)"),
        ("import torch\ntorch.empty(2**60)", (), "task.py needs more memory than there is"),
        (GOOD.replace(" nn.Tanh(),", ""), (), "a model without an activation to compare"),
        (GOOD.replace("X, Y\n", "X,\n"), (), "no target is there"),
        (GOOD + "\ntrain = [(X, Y), (X, Y, Y)]", (), "batch 2 of train= is"),
        (GOOD + "\nscore = lambda p, t: None", (), "must return a number, got NoneType"),
        (GOOD + "\nselect = 'block.*'", (), "no module matches 'block.*'"),
        (GOOD, ("--new", "other.py"), "--new only writes a file"),
        (GOOD, ("--jobs", "0"), "--jobs must be at least 1"),
        (GOOD, ("--activations", "torch.nn:Nothing"), "cannot be imported"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    flags: tuple[str, ...],
    message: str,
) -> None:
    if text is not None:
        Path("task.py").write_text(text)
    assert run("task.py", *flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not Path("runs").exists()


LATE = (
    GOOD
    + """
calls = []

def late(value):
    calls.append(1)
    if len(calls) > 7:
        {fault}
    return value
"""
)


@pytest.mark.parametrize(
    ("fault", "hook", "message"),
    [
        ("raise KeyError('late')", "score = lambda p, t: late(0.5)", "task.py raised KeyError"),
        ("raise SystemExit", "score = lambda p, t: late(0.5)", "task.py raised SystemExit"),
        ("return 'good'", "score = lambda p, t: late(0.5)", "must return a number, got str"),
        ("raise MemoryError", "score = lambda p, t: late(0.5)", "not enough memory"),
        ("torch.empty(2**60)", "score = lambda p, t: late(0.5)", "not enough memory"),
        (
            "raise ValueError('too late')",
            "made = build\ndef build():\n    return late(made())",
            "task.py raised ValueError: too late (task.py, line 18)",
        ),
    ],
)
def test_a_mistake_in_a_training_is_one_line_and_keeps_what_is_finished(
    run: Run, capsys: pytest.CaptureFixture[str], fault: str, hook: str, message: str
) -> None:
    Path("task.py").write_text(LATE.format(fault=fault) + hook)
    words = ("--epochs", "3", "--seeds", "2", "--activations", "softshrink", "--out", "run")
    assert run("task.py", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "finished trainings are kept" in line or "must return" in line
    results = Path("run/results.jsonl")
    lines = results.read_text().splitlines() if results.exists() else []
    assert all(json.loads(line)["status"] == "finished" for line in lines)
    assert len(list(Path("run/weights").iterdir())) == len(lines)
    assert not list(Path("run").glob("*.tmp*"))
    assert not Path("run/report.html").exists()


def test_new_wants_a_python_file(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--new", "task.txt") == 2
    assert "call it task.py" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
