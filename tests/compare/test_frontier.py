"""The frontier of an activation by one training, and what the forward of a network costs."""

import json
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import sparsact as sa
from sparsact.compare.settings.training_plan import make_plan
from sparsact.compare.training import engine
from sparsact.compare.training.courses import courses_of
from sparsact.compare.training.forward_timing import first_sample, time_forwards

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(120, 6, generator=GENERATOR)
Y = (X[:, 0] * X[:, 1] > 0).long()
POINTS = 4


@pytest.fixture(autouse=True)
def no_step_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "time_steps", lambda *_: {"relu": 1.0})


def net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2)
    )


def compare(activations: Any, **options: Any) -> Any:
    options = {"epochs": 8, "seeds": 1, "lr": 0.01, "batch_size": 20, **options}
    return sa.compare_activations(
        net, (X[:80], Y[:80]), (X[80:], Y[80:]), activations=activations, **options
    )


def test_the_density_falls_from_point_to_point(tmp_path: Any) -> None:
    names = ["relu", "softshrink", "topk", "learned_jumprelu", "silu"]
    result = compare(names, frontier=POINTS, out=tmp_path / "run")
    table = result.table.iloc[:-1]
    for name in names[:-1]:
        points = table[table["activation"] == name]
        assert points["annealed"].tolist() == [1, 2, 3, 4]
        assert points.index[1] == f"{name} annealed 2/4"
        # a penalty takes more steps to act than a threshold
        fall = 0.75 if name == "relu" else 0.5
        assert points["density"].iloc[-1] < fall * points["density"].iloc[0]
        values = points["value"].dropna()
        assert values.is_monotonic_decreasing if name == "topk" else values.is_monotonic_increasing
    assert list(table.index[-1:]) == ["silu"]
    assert pd.isna(table["annealed"].iloc[-1])
    assert "without a frontier, since they are never exactly zero: silu" in result.report.facts
    lines = (tmp_path / "run" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = {record["setting"]: record for record in map(json.loads, lines)}
    assert records["topk annealed 3/4"]["annealed"] == 3
    assert len(records["topk annealed 1/4"]["validation_scores"]) == 8
    assert len(records["topk annealed 3/4"]["validation_scores"]) == 2
    csv = pd.read_csv(tmp_path / "run" / "table.csv", index_col="setting")
    pd.testing.assert_series_equal(csv["density"], result.table["density"])


def test_the_first_point_is_an_ordinary_training() -> None:
    single = compare("relu").table.loc["relu"]
    first = compare("relu", frontier=2).table.loc["relu annealed 1/2"]
    columns = ["score", "density", "validation_score", "dead"]
    assert single[columns].tolist() == first[columns].tolist()


def test_a_point_of_a_frontier_can_be_chosen_and_its_network_is_that_of_the_point() -> None:
    result = compare("topk", frontier=3, tolerance=10.0)
    (picked,) = (row for row in result.report.rows if row.picked)
    assert picked.label.startswith("topk annealed")
    best = result.best
    with torch.no_grad():
        accuracy = float((best(X[80:]).argmax(1) == Y[80:]).double().mean())
        hidden = best[:2](X[80:])
    assert accuracy == pytest.approx(picked.score.mean)
    kept = round(picked.value * 24)
    assert int((hidden != 0).sum(1).max()) <= max(1, kept)


def test_a_frontier_that_was_cut_off_is_finished_equally(tmp_path: Any) -> None:
    def interrupt(done: int, total: int, label: str) -> None:
        if total > 1 and done == 20:
            raise KeyboardInterrupt

    def lines(name: str) -> list[str]:
        return (tmp_path / name / "results.jsonl").read_text(encoding="utf-8").splitlines()

    compare("softshrink", frontier=3, out=tmp_path / "whole")
    part = compare("softshrink", frontier=3, out=tmp_path / "cut", progress=interrupt)
    assert not part.complete
    # one line of the last frontier is there: a kill between two lines
    kept = lines("cut")
    assert kept == lines("whole")[: len(kept)]
    with (tmp_path / "cut" / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(lines("whole")[len(kept)] + "\n")
    for weights in (tmp_path / "whole" / "weights").iterdir():
        copy = tmp_path / "cut" / "weights" / weights.name
        copy.write_bytes(weights.read_bytes())
    again = compare("softshrink", frontier=3, out=tmp_path / "cut", resume=True)
    assert again.complete
    assert lines("cut") == lines("whole")


def test_a_frontier_in_which_the_training_diverges() -> None:
    result = compare("relu", frontier=3, optimizer="sgd", lr=1e9)
    assert [row.diverged for row in result.report.rows] == [1, 1, 1]
    assert result.best is None


def test_the_rate_is_searched_once_for_all_points() -> None:
    result = compare("relu", frontier=3, lr="auto", epochs=2)
    rates = {label.split("lr=")[1] for label in result.table.index[:3]}
    assert len(rates) == 1
    assert list(result.table["annealed"].iloc[:3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frontier": 1}, "frontier= needs 2 points at least, got 1"),
        ({"frontier": 3, "sweep": "lambd=0.1:1:2"}, "sweep= and frontier= exclude each other"),
        ({"frontier": 3, "target_density": 0.1}, "target_density= and frontier= exclude"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare("relu", **options)


def test_settings_with_points_are_one_course() -> None:
    from sparsact.compare import CompareConfig

    plan = make_plan(CompareConfig(activations="relu,silu,topk", frontier=3))
    assert [len(course) for course in courses_of(plan.settings)] == [3, 1, 3]
    plain = make_plan(CompareConfig(activations="relu,topk", sweep="l1=1e-4:1e-2:2"))
    assert [len(course) for course in courses_of(plain.settings)] == [1, 1, 1, 1]


class Wide(nn.Module):
    """A layer that is large enough for zeros to matter, after an activation and before one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 512), nn.Linear(512, 256)

    def forward(self, x: Any) -> Any:
        return self.second(torch.relu(self.first(x)))


def test_the_time_of_a_forward() -> None:
    result = sa.compare_activations(
        Wide, (X[:80], Y[:80]), (X, Y), activations="silu", epochs=1, seeds=1
    )
    table = result.table
    assert (table[["batch_ms", "sample_ms"]].iloc[:2] > 0).to_numpy().all()
    assert pd.isna(table.loc["silu", "sparse_sample_ms"])
    sparse = table.loc["relu", "sparse_sample_ms"]
    assert pd.isna(sparse) or sparse < table.loc["relu", "sample_ms"]
    facts = " ".join(result.report.facts)
    assert "SparseLinear was tried for 1 settings" in facts
    small = compare("relu")
    assert any(fact.startswith("SparseLinear was not tried") for fact in small.report.facts)


def test_measuring_leaves_the_network_as_it_was() -> None:
    from sparsact.compare.compare_config import CompareConfig
    from sparsact.compare.problems.model_problem import UserTask, model_problem

    plan = make_plan(CompareConfig(epochs=1, activations="relu"))
    problem = model_problem(plan, UserTask(Wide, (X, Y), (X, Y)))
    model = Wide().eval()
    before = model(X)
    times = time_forwards(problem, model)
    assert times.sparse_sample_ms is not None
    assert torch.equal(model(X), before)
    assert "forward" not in vars(model.second)


def test_the_first_sample_of_any_batch() -> None:
    from sparsact.compare.problems.batches import Batch

    scalar, table = torch.tensor(3.0), torch.randn(5, 2)
    batch = first_sample(Batch({"x": X[:4], "t": table, "s": scalar}, Y[:4], (X[:4], [Y[:4]])))
    assert batch.inputs["x"].shape == (1, 6)
    assert batch.inputs["t"] is table
    assert batch.inputs["s"] is scalar
    assert batch.raw[1][0].shape == (1,)
    assert batch.samples == 1


def test_an_interrupted_comparison_says_that_no_time_was_measured() -> None:
    def interrupt(done: int, total: int, label: str) -> None:
        if total > 1 and done == 12:
            raise KeyboardInterrupt

    result = compare("softshrink", progress=interrupt)
    assert not result.complete
    assert "no time of a forward was measured for relu" in result.report.facts
