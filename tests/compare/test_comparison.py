"""Comparisons from start to end in this process, on the embedded data."""

import errno
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from sparsact._common import atomic
from sparsact._common.errors import InputError, OutputError
from sparsact._common.progress import Progress, silent
from sparsact.compare import CompareConfig, Comparison, Outcome, load_model
from sparsact.compare.data import load, split
from sparsact.compare.problems.table_problem import build_network
from sparsact.compare.results.comparison_directory import ComparisonDirectory
from sparsact.compare.settings.compared_activations import ACTIVATIONS
from sparsact.compare.settings.compared_penalties import Strength
from sparsact.compare.settings.training_plan import Setting, make_plan
from sparsact.compare.training.density_search import why_missed

Run = Callable[..., Comparison]
SMALL = {"activations": "relu,softshrink", "hidden": "16", "epochs": 2, "seeds": 2}


@pytest.fixture
def start(tmp_path: Path) -> Run:
    def begin(name: str = "run", **flags: Any) -> Comparison:
        return Comparison(CompareConfig(**{**SMALL, **flags}, out=str(tmp_path / name)))

    return begin


def resume(path: Path, progress: Progress = silent) -> Outcome:
    return Comparison(CompareConfig(resume=str(path))).execute(progress)


def lines(path: Path) -> list[str]:
    return (path / "results.jsonl").read_text(encoding="utf-8").splitlines()


def status(path: Path) -> str:
    return str(json.loads((path / "config.json").read_text())["status"])


def test_every_activation_starts_from_the_same_linear_layers() -> None:
    plan = make_plan(CompareConfig())
    assert {setting.activation for setting in plan.settings} == set(ACTIVATIONS)
    networks = [build_network(setting, 5, (7, 6), 3, seed=4) for setting in plan.settings]
    for network in networks:
        for name in ("linear1", "linear2", "head"):
            for kind in ("weight", "bias"):
                own = getattr(network.get_submodule(name), kind)
                assert torch.equal(own, getattr(networks[0].get_submodule(name), kind))
    other = build_network(plan.settings[0], 5, (7, 6), 3, seed=5)
    assert not torch.equal(other.head.weight, networks[0].head.weight)


def test_complete_run_and_its_progress(start: Run) -> None:
    seen: list[tuple[int, int]] = []
    outcome = start().execute(lambda done, total, name: seen.append((done, total)))
    assert outcome.complete
    assert status(outcome.path) == "complete"
    assert seen[-1] == (8, 8)
    assert [row.trainings for row in outcome.report.rows] == [2, 2]
    assert len(lines(outcome.path)) == 4


def test_same_flags_give_the_same_numbers(start: Run) -> None:
    first, second = (start(name).execute(silent) for name in "ab")
    assert lines(first.path) == lines(second.path)


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_half_written_last_line_is_redone(start: Run, cut: int) -> None:
    path = start().execute(silent).path
    complete = lines(path)
    file = path / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    names: set[str] = set()
    outcome = resume(path, lambda done, total, name: names.add(name))
    assert lines(path) == complete
    assert names - {""} == {"softshrink λ=0.5, seed 1"}
    assert outcome.complete


def test_damage_before_the_last_line_is_an_error(start: Run) -> None:
    path = start().execute(silent).path
    text = "\n".join(["{", *lines(path)[1:]]) + "\n"
    (path / "results.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="line 1 is damaged"):
        resume(path)


def test_missing_weights_are_trained_again(start: Run) -> None:
    path = start().execute(silent).path
    (victim,) = (path / "weights").glob("relu-seed1*")
    before = victim.read_bytes()
    victim.unlink()
    resume(path)
    assert victim.read_bytes() == before


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_interruption_and_resume_give_the_numbers_of_an_uninterrupted_run(
    start: Run, stop: int
) -> None:
    def interrupt(done: int, total: int, name: str) -> None:
        if total > 1 and done == stop:
            raise KeyboardInterrupt

    expected = lines(start("uninterrupted").execute(silent).path)
    outcome = start("cut").execute(interrupt)
    path = outcome.path
    kept = ((path / "results.jsonl").exists() and lines(path)) or []
    assert not outcome.complete
    assert status(path) == "partial"
    assert kept == expected[: (stop - 1) // 2]
    assert (path / "report.html").exists() == bool(kept)
    again = resume(path)
    assert again.complete
    assert status(path) == "complete"
    assert lines(path) == expected


def test_resume_of_a_complete_run_trains_nothing(start: Run) -> None:
    path = start().execute(silent).path
    before = (path / "results.jsonl").read_bytes()
    assert resume(path).complete
    assert (path / "results.jsonl").read_bytes() == before


def test_resume_with_other_data_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    rows = [f"{i},{i * i % 7}.5" for i in range(40)]
    table.write_text("\n".join(["a,b", *rows]))
    config = CompareConfig(str(table), **SMALL, out=str(tmp_path / "run"))
    path = Comparison(config).execute(silent).path
    table.write_text("\n".join(["a,b", "100,1", *rows[1:]]))
    with pytest.raises(InputError, match="changed since"):
        resume(path)


def test_divergence_is_recorded_and_stops_nothing(start: Run) -> None:
    outcome = start(
        data="diabetes", activations="relu,softshrink,clip", optimizer="sgd", lr=2.0, task="regress"
    ).execute(silent)
    records = [json.loads(line) for line in lines(outcome.path)]
    assert outcome.complete
    assert len(records) == 6
    assert {record["status"] for record in records} == {"diverged", "finished"}
    for record in records:
        assert (record["test_score"] is None) == (record["status"] == "diverged")
    assert (outcome.path / "frontier.png").exists()


def test_run_in_which_all_diverge(start: Run) -> None:
    outcome = start(optimizer="sgd", lr=1e6).execute(silent)
    assert outcome.complete
    assert [row.diverged for row in outcome.report.rows] == [2, 2]
    assert outcome.report.conclusion == "No setting finished all its trainings."
    assert (outcome.path / "report.html").exists()
    assert not (outcome.path / "model.safetensors").exists()
    assert resume(outcome.path).complete


def final_scores(outcome: Outcome) -> dict[str, float]:
    return {row.label: row.score.mean for row in outcome.report.rows if row.score is not None}


def test_regress_with_smooth_l1(start: Run) -> None:
    flags = {"data": "diabetes", "epochs": 15, "seeds": 1, "lr": 3e-3}
    smooth = start("a", loss="smooth_l1", **flags).execute(silent)
    square = start("b", **flags).execute(silent)
    assert smooth.report.score_name == "R²"
    assert final_scores(smooth)["relu"] > 0.3
    assert final_scores(smooth) != final_scores(square)


def test_reconstruct(start: Run) -> None:
    outcome = start(task="reconstruct", epochs=15, seeds=1, lr=3e-3).execute(silent)
    assert 0.3 < final_scores(outcome)["relu"] < 1


def test_training_learns(start: Run) -> None:
    outcome = start(epochs=12, seeds=1, lr=5e-3).execute(silent)
    assert final_scores(outcome)["relu"] > 0.85


def test_sweep_over_lambda_leaves_the_others_alone() -> None:
    plan = make_plan(
        CompareConfig(activations="relu,topk,softshrink", sweep="lambd=0.01:1:3", penalty="l2=1e-3")
    )
    assert [setting.label for setting in plan.settings] == [
        "relu l2=0.001",
        "topk k/n=0.1 l2=0.001",
        "softshrink λ=0.01 l2=0.001",
        "softshrink λ=0.1 l2=0.001",
        "softshrink λ=1 l2=0.001",
    ]


def test_sweep_over_a_penalty_reaches_all() -> None:
    plan = make_plan(CompareConfig(activations="relu,learned_clip", sweep="l1=1e-4:1e-2:3"))
    expected = [
        (name, level, "l1", value)
        for name, level in [("relu", None), ("learned_clip", 0.5)]
        for value in (1e-4, 1e-3, 1e-2)
    ]
    assert len(plan.settings) == 6
    for setting, (name, level, kind, value) in zip(plan.settings, expected, strict=True):
        assert setting.penalty is not None
        assert (setting.activation, setting.level, setting.penalty.kind) == (name, level, kind)
        assert setting.penalty.value == pytest.approx(value)


def test_sweep_trains_every_value(start: Run) -> None:
    outcome = start(sweep="lambd=0.1:1:2", seeds=1).execute(silent)
    labels = ["relu", "softshrink λ=0.1", "softshrink λ=1"]
    assert [row.label for row in outcome.report.rows] == labels
    sparse = [row.density.mean for row in outcome.report.rows if row.density is not None]
    assert sparse[2] < sparse[1]


def test_target_density_is_met(start: Run) -> None:
    outcome = start(
        activations="relu,jumprelu,topk,silu",
        hidden="64",
        epochs=12,
        seeds=1,
        lr=3e-3,
        target_density=0.2,
    ).execute(silent)
    rows = {row.activation: row for row in outcome.report.rows}
    assert list(rows) == ["relu", "jumprelu", "topk", "silu"]
    for name in ("relu", "jumprelu", "topk"):
        density = rows[name].density
        assert density is not None
        assert density.mean == pytest.approx(0.2, rel=0.15)
    assert rows["silu"].density is not None
    assert rows["silu"].density.mean > 0.9  # it has no zeros, so nothing was searched


@pytest.mark.parametrize("name", ["softshrink", "learned_jumprelu", "topk"])
def test_saved_model_gives_the_recorded_accuracy_on_raw_inputs(start: Run, name: str) -> None:
    # a tolerance of 1 picks the sparsest, which is not ReLU
    outcome = start(activations=name, lambd=1.0, tolerance=1.0).execute(silent)
    (picked,) = (row for row in outcome.report.rows if row.picked)
    assert picked.activation == name
    records = [json.loads(line) for line in lines(outcome.path)]
    own = [record for record in records if record["setting"] == picked.label]
    best = max(own, key=lambda record: record["validation_scores"][-1])
    model = load_model(outcome.path / "model.safetensors")
    assert not model.training
    dataset = load("digits", None, 32)
    data = split(dataset, None)
    raw = data.test.x * data.scale + data.mean
    with torch.no_grad():
        accuracy = float((model(raw).argmax(1) == data.test.y).double().mean())
    assert accuracy == pytest.approx(best["test_score"], abs=1.5 / len(raw))
    assert dataset.x.max() == raw.max().round()
    assert model.description["classes"] == list(range(10))
    assert len(model.description["columns"]) == 64


def test_a_full_disk_is_an_output_error(start: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("save_file", "savefig"):
        with monkeypatch.context() as patch:
            module = atomic if name == "save_file" else Figure

            def refuse(*_: object, **__: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(module, name, refuse)
            with pytest.raises(OutputError, match="could not be written"):
                start(name).execute(silent)


def weights_norm(run: Comparison, setting: Setting) -> float:
    tensors = run.run.weights((setting.label, 0))
    return math.sqrt(sum(float(t.square().sum()) for n, t in tensors.items() if "weight" in n))


def test_weight_penalty_shrinks_the_weights(start: Run) -> None:
    free, held = start("a", seeds=1), start("b", seeds=1, weight_penalty="l2=1")
    free.execute(silent)
    held.execute(silent)
    assert weights_norm(held, Setting("relu")) < 0.8 * weights_norm(free, Setting("relu"))


def test_activation_penalty_lowers_the_density(start: Run) -> None:
    free = start("a", seeds=1, epochs=8).execute(silent).report.rows[0]
    held = start("b", seeds=1, epochs=8, penalty="l1=0.1").execute(silent).report.rows[0]
    assert held.label == "relu l1=0.1"
    assert free.density is not None
    assert held.density is not None
    assert held.density.mean < 0.9 * free.density.mean


def test_clip_grad_limits_every_step(start: Run) -> None:
    flags = {"seeds": 1, "epochs": 1, "optimizer": "sgd", "lr": 1.0, "batch_size": 2000}
    clipped = start("a", clip_grad=1e-3, **flags)
    clipped.execute(silent)
    initial = build_network(Setting("relu"), 64, (16,), 10, seed=0).state_dict()
    weights = clipped.run.weights(("relu", 0))
    moved = sum(float((weights[name] - initial[name]).square().sum()) for name in initial)
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=1e-3)  # one step of SGD from the start
    free = start("b", **flags)
    free.execute(silent)
    unclipped = free.run.weights(("relu", 0))
    assert sum(float((unclipped[name] - initial[name]).square().sum()) for name in initial) > 1e-2


def test_the_conclusion_names_missed_target_densities(tmp_path: Path) -> None:
    """No λ makes softshrink this sparse after one epoch."""
    config = CompareConfig(
        "digits",
        activations="softshrink",
        hidden="16",
        epochs=1,
        seeds=1,
        target_density=1e-4,
        out=str(tmp_path / "run"),
    )
    outcome = Comparison(config).execute(lambda *_: None)
    assert "the target of 0.0% was not reached by" in outcome.report.conclusion
    assert "no λ that was tried came closer" in outcome.report.conclusion


def test_a_search_that_misses_says_why() -> None:
    relu, soft = Setting("relu"), Setting("softshrink", 9.9)
    strong = replace(relu, penalty=Strength("l1", 0.98))
    assert why_missed(soft) == "the largest λ that is tried"
    assert why_missed(replace(soft, level=1.01e-3)) == "the smallest λ that is tried"
    assert why_missed(strong) == "the largest penalty that is tried"
    assert why_missed(replace(soft, level=0.5)) == "no λ that was tried came closer"
    assert why_missed(Setting("topk", 0.1)) == "k is a share of the channels, rounded"


def test_a_file_that_no_comparison_wrote_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("text")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name, message in [
        ("missing", "no such file"),
        ("text", "not a readable safetensors file"),
        ("other", "no comparison wrote it"),
    ]:
        with pytest.raises(InputError, match=message):
            load_model(tmp_path / f"{name}.safetensors")


def test_damaged_weights_are_named(start: Run) -> None:
    path = start().execute(silent).path
    (victim,) = (path / "weights").glob("relu-seed1*")
    victim.write_text("damaged")
    run = ComparisonDirectory.open(path)
    with pytest.raises(InputError, match=r"relu-seed1.*is damaged.*Delete it; resume="):
        run.weights(("relu", 1))
