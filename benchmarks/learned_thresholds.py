"""Learned thresholds compared with ReLU on digits: accuracy and density over five seeds.

All runs have the same network, split, initial weights and batches. The learned kinds have one λ per
channel and an L1 penalty on the activations; ReLU has no penalty.
"""

import dataclasses
import statistics
import tempfile
from pathlib import Path

from harness import Run, main
from sparsact.compare import CompareConfig, Comparison
from sparsact.report.comparison.comparison_records import SettingRow

SEEDS = 5
START = 0.5
RUNS = {
    "relu": CompareConfig(activations="relu", seeds=SEEDS),
    "learned_hardshrink": CompareConfig(
        activations="learned_hardshrink", penalty="l1=1e-3", lambd=START, seeds=SEEDS
    ),
    "learned_softshrink": CompareConfig(
        activations="learned_softshrink", penalty="l1=1e-3", lambd=START, seeds=SEEDS
    ),
}


def compare(name: str, folder: Path, tiny: bool) -> tuple[SettingRow, list[float]]:
    sizes = {"epochs": 1, "hidden": "8", "seeds": 1} if tiny else {}
    config = dataclasses.replace(RUNS[name], out=str(folder / name), **sizes)
    comparison = Comparison(config)
    report = comparison.execute(lambda done, total, what: None).report
    (row,) = [row for row in report.rows if row.activation == name]
    scores = [r.test_score for r in comparison.run.records.values() if r.setting == row.label]
    return row, [score for score in scores if score is not None]


def digits(run: Run) -> None:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in run.size(list(RUNS), ["relu", "learned_hardshrink"]):
            row, scores = compare(name, Path(folder), run.tiny)
            assert row.density is not None
            results[name] = {
                "accuracy": round(statistics.fmean(scores), 4),
                "accuracy per seed": [round(score, 4) for score in scores],
                "density": round(row.density.mean, 4),
                "learned lambda, from 0.5": (
                    None if row.learned_lambda is None else round(row.learned_lambda.mean, 4)
                ),
            }
    run.write("learned_thresholds", results)


if __name__ == "__main__":
    main(__doc__, {"digits": digits})
