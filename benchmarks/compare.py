"""What comparisons cost, and what changes their result.

python benchmarks/compare.py [frontier | rates | jobs | kills] [--tiny]

``frontier``: one annealed training beside a training for each of its points. ``rates``: which ranks
of activations change when each has a learning rate of its own. ``jobs``: two processes beside one,
and how the time grows with settings × seeds. ``kills``: workers and drivers are killed at random
moments, and the run is resumed, until its records are complete: are they those of one process?
"""

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Run, main
from sparsact._common.progress import silent
from sparsact.compare import CompareConfig, Comparison, Outcome
from sparsact.compare.training.knobs import turn
from sparsact.compare.training.training import train
from sparsact.compare.training.trial_record import TrialRecord

RANKED = "relu,silu,gelu,softshrink,hardshrink,jumprelu,topk,learned_softshrink"


def compared(folder: str, name: str, **options: Any) -> tuple[Comparison, Outcome]:
    """A comparison from start to end in a new directory."""
    comparison = Comparison(CompareConfig(**options, out=str(Path(folder) / name)))
    return comparison, comparison.execute(silent)


def frontier(run: Run) -> None:
    """Score and density at each point: by one training, and by a training for the point alone."""
    points, epochs, seeds = run.size((8, 30, 3), (2, 1, 1))
    names = run.size("relu,softshrink,topk", "topk")
    options = {"activations": names, "epochs": epochs, "seeds": seeds, "frontier": points}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        comparison, _ = compared(folder, "annealed", **options)
        seconds = {"annealed": time.perf_counter() - start}
        start = time.perf_counter()
        separate = [_alone(comparison, record) for record in comparison.run.records.values()]
        seconds["separate"] = time.perf_counter() - start
    results: dict[str, Any] = {"seconds": seconds, "points": {}}
    for setting in comparison.plan.settings:
        pairs = [
            (annealed, alone)
            for annealed, alone in zip(comparison.run.records.values(), separate, strict=True)
            if annealed.setting == setting.label
        ]
        results["points"][setting.label] = {
            "value": statistics.fmean(annealed.value or 0.0 for annealed, _ in pairs),
            "annealed": _means([annealed for annealed, _ in pairs]),
            "separate": _means([alone for _, alone in pairs]),
        }
    run.write("compare_frontier", results)


def _alone(comparison: Comparison, record: TrialRecord) -> TrialRecord:
    """A training from the start with the λ, k or penalty of a point."""
    setting = next(s for s in comparison.plan.settings if s.label == record.setting)
    setting = replace(setting, point=None)
    if record.value is not None:
        setting = turn(setting, record.value)
    return train(setting, record.seed, comparison.plan, comparison.problem, lambda: None)[0]


def _means(records: list[TrialRecord]) -> dict[str, float]:
    finished = [record for record in records if record.status == "finished"]
    return {
        "validation score": statistics.fmean(r.validation_score for r in finished),
        "density": statistics.fmean(r.validation_density for r in finished),
    }


def rates(run: Run) -> None:
    """The ranks of activations with one learning rate for all, and with one for each."""
    results = {}
    for data in run.size(("digits", "breast_cancer"), ("breast_cancer",)):
        options = {
            "data": data,
            "activations": run.size(RANKED, "relu,silu"),
            "epochs": run.size(20, 1),
            "seeds": run.size(3, 1),
            "hidden": "64,32",
        }
        scores = {}
        with tempfile.TemporaryDirectory() as folder:
            for lr in (1e-3, "auto"):
                _, outcome = compared(folder, str(lr), **options, lr=lr)
                scores[str(lr)] = {
                    row.activation: (row.score.mean, row.score_error or 0.0)
                    for row in outcome.report.rows
                    if row.score is not None
                }
        ranks = {lr: _ranks(values) for lr, values in scores.items()}
        results[data] = {
            name: {
                f"{figure}, lr {lr}": value
                for lr in scores
                if name in scores[lr]
                for figure, value in zip(
                    ("score", "standard error", "rank"),
                    (*scores[lr][name], ranks[lr][name]),
                    strict=True,
                )
            }
            for name in scores["auto"]
        }
    run.write("compare_rates", results)


def _ranks(scores: dict[str, tuple[float, float]]) -> dict[str, int]:
    ordered = sorted(scores, key=lambda name: -scores[name][0])
    return {name: rank for rank, name in enumerate(ordered, 1)}


def jobs(run: Run) -> None:
    """Seconds of comparisons of different size, by one process and by two."""
    seconds: dict[str, dict[str, float]] = {}
    sizes = run.size([(2, 2), (4, 2), (4, 4)], [(2, 1)])
    names = ["relu", "softshrink", "hardshrink", "jumprelu"]
    with tempfile.TemporaryDirectory() as folder:
        for settings, seeds in sizes:
            label = f"{settings} settings × {seeds} seeds"
            seconds[label] = {}
            for count in run.size((1, 2), (1,)):
                options = {"activations": ",".join(names[:settings]), "seeds": seeds}
                options |= {"epochs": run.size(100, 1), "jobs": count}
                start = time.perf_counter()
                compared(folder, f"{settings}-{seeds}-{count}", **options)
                seconds[label][f"{count} processes"] = time.perf_counter() - start
    run.write("compare_jobs", seconds)


def kills(run: Run) -> None:
    """How many runs have the records of one process after so many kills."""
    wanted, chance = run.size(20, 1), random.Random(0)
    options = ["digits", "--activations", "relu,softshrink", "--hidden", "32"]
    options += ["--epochs", str(run.size(40, 2)), "--seeds", str(run.size(6, 1))]
    done: dict[str, int] = {"driver": 0, "worker": 0}
    runs = equal = 0
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        start = time.perf_counter()
        _driver(folder, *options, "--out", "one").wait()
        longest = time.perf_counter() - start
        expected = _lines(folder / "one")
        while sum(done.values()) < wanted:
            runs += 1
            path = folder / f"run{runs}"
            while True:  # until the run is complete
                resumes = (path / "config.json").exists()
                begun = ["--resume", path.name] if resumes else [*options, "--out", path.name]
                process = _driver(folder, *begun, "--jobs", run.size("2", "1"))
                if sum(done.values()) < wanted:
                    victim = _kill_soon(process, chance, longest)
                    if victim is not None:
                        done[victim] += 1
                if process.wait() == 0:
                    break
                if not (path / "config.json").exists():
                    _remove(path)
            equal += _lines(path) == expected
    results = {f"kills of a {victim}": count for victim, count in done.items()}
    run.write("compare_kills", results | {"runs": runs, "runs with equal records": equal})


def _driver(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "sparsact.cli", "compare", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=environment, **quiet)


def _kill_soon(
    process: "subprocess.Popen[bytes]", chance: random.Random, longest: float
) -> str | None:
    """Kill the driver or one of its workers at a random moment, unless it ends before."""
    until = time.monotonic() + chance.random() * longest
    while time.monotonic() < until:
        if process.poll() is not None:
            return None
        time.sleep(0.01)
    workers = _workers(process.pid)
    if workers and chance.random() < 0.5:
        os.kill(chance.choice(workers), signal.SIGKILL)
        return "worker"
    process.kill()
    return "driver"


def _workers(driver: int) -> list[int]:
    """The processes of loky that a driver has started."""
    children = Path(f"/proc/{driver}/task/{driver}/children")
    found = []
    for child in children.read_text().split() if children.exists() else []:
        line = Path(f"/proc/{child}/cmdline")
        if line.exists() and b"popen_loky" in line.read_bytes():
            found.append(int(child))
    return found


def _lines(path: Path) -> list[str]:
    return sorted((path / "results.jsonl").read_text(encoding="utf-8").splitlines())


def _remove(path: Path) -> None:
    """A directory in which a run has not begun."""
    if path.exists():
        for file in path.iterdir():
            file.rmdir() if file.is_dir() else file.unlink()
        path.rmdir()


if __name__ == "__main__":
    main(__doc__, {"frontier": frontier, "rates": rates, "jobs": jobs, "kills": kills}, threads=1)
