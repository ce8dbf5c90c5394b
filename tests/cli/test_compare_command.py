"""``sparsact compare`` as a user runs it, in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "sparsact.cli", "compare"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *flags],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def records(path: Path) -> list[str]:
    return sorted((path / "results.jsonl").read_text(encoding="utf-8").splitlines())


def status(path: Path) -> str:
    return str(json.loads((path / "config.json").read_text())["status"])


def test_digits(tmp_path: Path) -> None:
    flags = [
        "--activations",
        "relu,softshrink",
        "--seeds",
        "1",
        "--epochs",
        "2",
        "--hidden",
        "32,16",
        "--out",
        "run",
    ]
    done = run(tmp_path, "digits", *flags)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "run"
    for name in ("config.json", "results.jsonl", "model.safetensors", "frontier.png"):
        assert (out / name).stat().st_size > 0
    page = (out / "report.html").read_text(encoding="utf-8")
    markup = re.sub(r"(<script\b[^>]*>).*?</script>", r"\1", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", markup)
    assert len(records(out)) == 2
    assert status(out) == "complete"
    assert "softshrink λ=0.5" in done.stdout


def test_csv(tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    iris = load_iris()
    rows = [
        ",".join([*map(str, x), iris.target_names[y]])
        for x, y in zip(iris.data, iris.target, strict=True)
    ]
    (tmp_path / "iris.csv").write_text("\n".join(["a,b,c,d,species", *rows]))
    flags = [
        "--activations",
        "relu",
        "--seeds",
        "1",
        "--epochs",
        "2",
        "--hidden",
        "8",
        "--out",
        "run",
    ]
    done = run(tmp_path, "iris.csv", "--target", "species", *flags)
    assert done.returncode == 0, done.stderr
    assert "Activations on iris: classification" in done.stdout


ROWS = [f"{i},{i % 7},{'ab'[i % 2]}" for i in range(30)]
TABLES = {
    "text.csv": [*ROWS[:4], "oops,1,a", *ROWS],
    "inf.csv": [*ROWS[:4], "inf,1,a", *ROWS],
    "single.csv": [*ROWS, "1,2,lonely"],
    "good.csv": ROWS,
}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--activations sofshrink", "did you mean 'softshrink'"),
        ("digts", "did you mean 'digits'"),
        ("[/]", "no such file: [/]"),
        ("missing.csv", "no such file: missing.csv"),
        ("text.csv --target kind", "row 5, column 'x' is text: 'oops'"),
        ("inf.csv --target kind", "row 5, column 'x' is inf"),
        ("single.csv --target kind", "class lonely has 1 sample"),
        ("good.csv --target knd", "did you mean 'kind'"),
        ("--out used", "used exists already: choose another --out"),
        ("--out used", "or continue the run with --resume"),
        ("--sweep lambda=0.1:1:3", "did you mean 'lambd'"),
        ("--sweep lambd=0.1:1:²", "LOW:HIGH:COUNT"),
        ("--penalty l3=1", "unknown --penalty kind 'l3'; did you mean"),
        ("--penalty l1=x", "--penalty needs a positive number, got 'x'"),
        ("--hidden 32,x", "--hidden takes widths"),
        ("--device nothing", "--device nothing cannot be used"),
        ("--device meta", "--device meta"),
        ("--lr -1", "--lr must be positive"),
        ("--batch-size 0", "--batch-size must be at least 1, got 0"),
        ("--resume old --epochs 3", "leave out other arguments"),
        ("--resume old", "old holds no run"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sparsact_lines: Callable[..., tuple[int, str, str]],
    flags: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in TABLES.items():
        (tmp_path / name).write_text("\n".join(["x,y,kind", *rows]))
    (tmp_path / "old").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "config.json").touch()
    code, out, error = sparsact_lines("compare", *flags.split())
    assert code == 2
    (line,) = error.splitlines()
    assert line.startswith("error:")
    assert message in line
    assert "Traceback" not in out
    assert not (tmp_path / "runs").exists()


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, "[/]")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no such file: [/]")


def test_interrupt_and_resume(tmp_path: Path) -> None:
    flags = [
        "--activations",
        "relu,softshrink",
        "--seeds",
        "3",
        "--epochs",
        "12",
        "--hidden",
        "16",
        "--out",
    ]
    process = subprocess.Popen(
        [*COMMAND, *flags, "cut"], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    results = tmp_path / "cut" / "results.jsonl"
    until = time.monotonic() + 90
    while not (results.exists() and results.stat().st_size) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert status(tmp_path / "cut") == "partial"
    kept = records(tmp_path / "cut")
    assert 1 <= len(kept) < 6
    done = run(tmp_path, "--resume", "cut")
    assert done.returncode == 0, done.stderr
    assert status(tmp_path / "cut") == "complete"
    assert run(tmp_path, *flags, "uninterrupted").returncode == 0
    uninterrupted = records(tmp_path / "uninterrupted")
    assert records(tmp_path / "cut") == uninterrupted
    assert set(kept) < set(uninterrupted)
