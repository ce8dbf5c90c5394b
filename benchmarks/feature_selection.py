"""Selecting features: four methods of this library, LassoNet, scikit-learn and mutual information.

    python benchmarks/feature_selection.py

Three data sets: breast cancer (30 features), digits (64), and made data whose 10 true features of
200 act partly by products and squares. Every method selects 5, 10 and 20 features on the training
part. One model, a random forest, is then fitted to these features and scored on the test part. Of
the made data the share of the true features among the selected is given too. All splits are the
same for all methods; the figures are means over the splits, and their standard deviation. A method
selects the three numbers one after the other; LassoNet's path orders the features, and one path
serves all three. The seconds are those of all three.

LassoNet runs where its package is installed (``pip install lassonet``); it is left out elsewhere,
which the result says.
"""

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel, SelectKBest, mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler

import sparsact as sa
from harness import Run, main

COUNTS = (5, 10, 20)
TRUE = 10
Data = tuple[np.ndarray, np.ndarray]
Masks = dict[int, np.ndarray]  # the selected features, for each number of them
Select = Callable[[np.ndarray, np.ndarray, tuple[int, ...]], Masks]


def made(samples: int = 600, features: int = 200) -> Data:
    """Classes that depend on 10 features: 4 linearly, 4 in two products, 2 by squares."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, features))
    score = x[:, 0] - x[:, 1] + x[:, 2] - x[:, 3] + 2 * x[:, 4] * x[:, 5] + 2 * x[:, 6] * x[:, 7]
    score += x[:, 8] ** 2 - x[:, 9] ** 2
    return x, (score + 0.3 * rng.normal(size=samples) > 0).astype(int)


def fitted(selector: Callable[[int], Any]) -> Select:
    """A scikit-learn selector, fitted once for each number of features."""

    def select(x: np.ndarray, y: np.ndarray, counts: tuple[int, ...]) -> Masks:
        return {count: selector(count).fit(x, y).get_support() for count in counts}

    return select


def ours(method: str, steps: int) -> Select:
    def selector(count: int) -> Any:
        return sa.FeatureSelector(method, count, max_iter=steps, random_state=0)

    return fitted(selector)


def mutual_information(count: int) -> Any:
    return SelectKBest(partial(mutual_info_classif, random_state=0), k=count)


def from_model(count: int) -> Any:
    """scikit-learn's: the largest weights of a logistic regression with L1."""
    model = LogisticRegression(l1_ratio=1.0, solver="saga", C=0.1, max_iter=2000, tol=1e-3)
    return SelectFromModel(model, max_features=count, threshold=-np.inf)


def lassonet(steps: int) -> Select:
    def select(x: np.ndarray, y: np.ndarray, counts: tuple[int, ...]) -> Masks:
        from lassonet import LassoNetClassifier

        model = LassoNetClassifier(
            hidden_dims=(16,), n_iters=(steps, steps // 10), random_state=0, verbose=0
        )
        model.path(x.astype(np.float32), y)
        order = np.argsort(-model.feature_importances_.numpy(), kind="stable")
        return {count: np.isin(np.arange(x.shape[1]), order[:count]) for count in counts}

    return select


def compare(run: Run, name: str, data: Data, methods: dict[str, Select]) -> dict[str, Any]:
    x, y = data
    parts = StratifiedShuffleSplit(run.size(3, 1), test_size=0.3, random_state=0).split(x, y)
    splits = list(parts)
    counts = run.size(COUNTS, COUNTS[:1])
    result: dict[str, Any] = {}
    for method, select in methods.items():
        scores: dict[int, list[float]] = {count: [] for count in counts}
        true: dict[int, list[float]] = {count: [] for count in counts}
        seconds = []
        for train, test in splits:
            scaler = StandardScaler().fit(x[train])
            start = time.perf_counter()
            masks = select(scaler.transform(x[train]), y[train], counts)
            seconds.append(time.perf_counter() - start)
            for count, mask in masks.items():
                forest = RandomForestClassifier(run.size(200, 10), random_state=0)
                forest.fit(x[train][:, mask], y[train])
                scores[count].append(forest.score(x[test][:, mask], y[test]))
                true[count].append(mask[:TRUE].sum() / min(TRUE, count))
        result[method] = {}
        for count in counts:
            row = {
                "accuracy": round(float(np.mean(scores[count])), 4),
                "deviation": round(float(np.std(scores[count])), 4),
            }
            if name == "made":
                row["share of the true"] = round(float(np.mean(true[count])), 3)
            result[method][f"{count} features"] = row
        result[method]["seconds"] = round(float(np.median(seconds)), 3)
    return result


def selection(run: Run) -> None:
    """All data sets and methods."""
    steps = run.size(300, 10)
    methods = {f"ours: {name}": ours(name, steps) for name in ("lasso", "stg", "lassonet", "group")}
    methods["SelectFromModel"] = fitted(from_model)
    methods["mutual information"] = fitted(mutual_information)
    if importlib.util.find_spec("lassonet") is not None:
        methods["LassoNet"] = lassonet(run.size(1000, 10))
    data = {"made": made()}
    if not run.tiny:
        data["breast cancer"] = load_breast_cancer(return_X_y=True)
        data["digits"] = load_digits(return_X_y=True)
    results: dict[str, Any] = {
        name: compare(run, name, sets, methods) for name, sets in data.items()
    }
    if "LassoNet" not in methods:
        results["left out"] = "LassoNet: its package is not installed"
    run.write("feature_selection", results)


if __name__ == "__main__":
    main(__doc__, {"selection": selection})
