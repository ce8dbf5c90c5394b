"""``sparsact calibrate`` and ``sparsact bench`` on a tiny model, within this process."""

import dataclasses
import json
import re
from typing import get_args, get_type_hints

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from sparsact.calibration import ThresholdPlan, calibrate, compensate, tune
from sparsact.calibration.allocations import ALLOCATIONS
from sparsact.calibration.scores import SCORES
from sparsact.cli.calibrate_command import CalibrateFlags
from sparsact.evaluation import BenchConfig
from sparsact.inference.sparse_linear import DTYPES
from sparsact.text.windows import as_batches, choose, read_rows, split
from tiny_language import SIZE, TEXT, llama, save_model, tokenizer

CALIBRATE = ["calibrate", "--model", "{tiny}", "--text", "{text}", "--length", "64"]
BENCH = [
    *("bench", "--model", "{tiny}", "--plan", "{plan}", "--text", "{text}", "--length", "64"),
    *("--prompt", "8", "--tokens", "5", "--rounds", "2", "--windows", "3"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A tiny model, a text and a plan."""
    folder = tmp_path_factory.mktemp("language")
    model = llama()
    save_model(folder / "tiny", model)
    words = torch.randint(len(TEXT), (2000,), generator=torch.Generator().manual_seed(0))
    (folder / "text.txt").write_text(" ".join(TEXT[i] for i in words))
    (folder / "short.txt").write_text("the quick brown fox")
    (folder / "empty.txt").write_text("")
    batches = [torch.randint(2, 18, (2, 40), generator=torch.Generator().manual_seed(1))]
    plan = calibrate(model, batches, 0.5)
    plan.save(folder / "plan")
    dataclasses.replace(plan, keep_first=64).save(folder / "first")
    named = {name: folder / name for name in ("tiny", "plan", "new")}
    return {**named, "folder": folder, "text": folder / "text.txt"}


@pytest.fixture
def run(places, sparsact):
    """Runs a command, with the names of places in it."""
    return lambda *arguments: sparsact(*(str(each).format(**places) for each in arguments))


def test_calibrate_writes_a_plan_once(run, places, tmp_path):
    out = tmp_path / "plan"
    status, shown, error = run(*CALIBRATE, "--sparsity", "0.4", "--out", out)
    assert status == 0, error
    plan = ThresholdPlan.load(out)
    plan.check(llama())
    assert plan.sparsity == 0.4
    assert plan.achieved_sparsity == pytest.approx(0.4, abs=0.05)
    assert re.search(rf"all +8 +100.0% +{plan.achieved_sparsity:.1%}", shown)
    assert "measured on 2 other rows" in shown
    assert f"plan: {out}" in shown
    written = (out / "plan.json").read_bytes()
    status, _, error = run(*CALIBRATE, "--out", out)
    assert status == 2
    assert "--force" in error
    assert (out / "plan.json").read_bytes() == written
    status, _, error = run(
        *CALIBRATE, "--out", out, "--force", "--sparsity", "0.2", "--exclude", "*.o_proj",
        "--score", "weight", "--allocate", "uniform", "--keep-first", "2",
    )  # fmt: skip
    assert status == 0, error
    plan = ThresholdPlan.load(out)
    assert (plan.score, plan.allocate, plan.keep_first) == ("weight", "uniform", 2)
    assert len(plan.sites) == 6


def test_calibrate_compensates_and_tunes(run, places, tmp_path):
    """As the library does, and the sparsity is that on rows that none of it saw."""
    out = tmp_path / "plan"
    status, _, error = run(*CALIBRATE, "--out", out, "--compensate", "3", "--tune", "4")
    assert status == 0, error
    actual = ThresholdPlan.load(out)
    model = llama()
    rows, held_out = split(read_rows(model, tokenizer(), [str(places["text"])], 64, 8), 2)
    expected = calibrate(model, as_batches(choose(rows, 6)), 0.5)
    expected = compensate(expected, model, as_batches(choose(rows, 24)), rank=3)
    expected = tune(expected, model, as_batches(choose(rows, 4)), 4)
    for name, (up, down) in expected.updates.low_rank.items():
        torch.testing.assert_close(actual.updates.low_rank[name], (up, down))
    assert actual.updates.values.keys() == expected.updates.values.keys()
    assert actual.achieved == pytest.approx(actual.measure(model, as_batches(held_out)))


@pytest.mark.parametrize(
    ("flag", "what"), [("--compensate", "a rank"), ("--tune", "a number of steps")]
)
def test_calibrate_rejects_negative_numbers(run, tmp_path, flag, what):
    status, _, error = run(*CALIBRATE, "--out", tmp_path / "other", flag, "-1")
    assert status == 2
    assert f"{flag} takes {what}, or 0 for none; got -1" in error
    assert not (tmp_path / "other").exists()


def test_calibrate_uses_the_number_of_rows(run, places, tmp_path):
    """The plan is that of the library on these rows."""
    status, _, error = run(*CALIBRATE, "--out", tmp_path / "plan", "--rows", "3")
    assert status == 0, error
    model = llama()
    rows = read_rows(model, tokenizer(), [str(places["text"])], 64, 4)
    expected = calibrate(model, as_batches(choose(split(rows, 1)[0], 3)), 0.5)
    actual = ThresholdPlan.load(tmp_path / "plan")
    for name, level in expected.thresholds.items():
        assert torch.allclose(actual.thresholds[name], level)


def test_bench_measures_and_reports(run, tmp_path):
    out = tmp_path / "bench"
    status, shown, error = run(
        *BENCH, "--out", out, "--curve", "0.3", "--calibration-text", "{text}",
        "--calibration-rows", "2",
    )  # fmt: skip
    assert status == 0, error
    results = json.loads((out / "results.json").read_text())
    report = results["report"]
    dense, sparse, level = report["quality"]
    assert dense["ratio"] is None
    assert sparse["sparsity"] == pytest.approx(0.5, abs=0.05)
    assert level["sparsity"] == pytest.approx(0.3, abs=0.05)
    ratio = sparse["perplexity"]["value"] / dense["perplexity"]["value"]
    assert sparse["ratio"]["value"] == pytest.approx(ratio)
    assert abs(ratio - 1) > abs(level["ratio"]["value"] - 1)
    assert [row["label"] for row in report["decode"]] == [
        "dense float32",
        "sparse bfloat16",
        "dense bfloat16",
    ]
    wide, skipping, half = (row["weight_bytes"] for row in report["decode"])
    assert wide == pytest.approx(2 * half, rel=0.01)
    assert skipping < 0.75 * half
    best = min(row["ms"] for row in report["decode"] if row["label"].startswith("dense"))
    for row in report["decode"]:
        assert row["speed"] == pytest.approx(best / row["ms"])
    assert (out / "sparsity.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    for cell in ("sparse bfloat16", "mlp.down_proj", "calibrated at 30%"):
        assert cell in page
        assert cell in shown
    assert report["conclusion"] in shown
    apart = next(fact for fact in report["facts"] if fact.startswith("outputs"))
    assert float(apart.split(" at most ")[1].split()[0]) < 1e-4


def test_bench_of_one_dense_model_on_the_reference(run, places, tmp_path):
    without_text = [flag for flag in BENCH if flag not in ("--text", "{text}")]
    status, shown, error = run(
        *without_text, "--out", tmp_path / "b", "--dense", "bfloat16", "--dtype", "int8"
    )
    assert status == 0, error
    assert "sparse int8" in shown
    assert "float32" not in shown
    report = json.loads((tmp_path / "b" / "results.json").read_text())["report"]
    assert len(report["decode"]) == 2
    assert any("Python's reference" in fact for fact in report["facts"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sparsity", "1"], "sparsity must be in [0, 1)"),
        (["--sparsity", "nan"], "sparsity must be in [0, 1)"),
        (["--text", "{folder}/empty.txt"], "8 rows of 64 need 504 tokens"),
        (["--text", "{folder}/short.txt"], "8 rows of 64 need 504 tokens of text, and there are 4"),
        (["--text", "{folder}/none.txt"], "none.txt"),
        (["--text"], "--text needs a file"),
        (["--model", "{folder}/none"], "no directory"),
        (["--model", "{folder}"], "no config.json"),
        (["--gguf", "none.gguf"], "no file none.gguf"),
        (["--rows", "0"], "at least 1 row"),
        (["--length", "4096"], "128 positions"),
        (["--include", "*nothing*"], "*nothing*"),
        (["--keep-first", "-1"], "--keep-first must be at least 0, got -1"),
        (["--score", "size"], "invalid choice 'size'"),
        (["--out", "{plan}"], "--force"),
        (["--out", "{text}"], "is a file"),
    ],
)
def test_mistakes_in_calibrating_end_with_one_line(run, places, flags, message):
    status, _, error = run(*CALIBRATE, "--out", "{new}", *flags)
    assert status == 2
    assert message in error
    assert "Traceback" not in error
    assert not places["new"].exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--plan", "{tiny}"], "holds no plan.json"),
        (["--plan", "{folder}/none"], "holds no plan.json"),
        (["--model", "{folder}/other"], "the plan is for another model"),
        (["--text", "{folder}/short.txt"], "3 rows of 64 need 189 tokens of text, and there are 4"),
        (["--windows", "0"], "--windows must be at least 1"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--tokens", "3", "--rounds", "1"], "only 1 timing per model"),
        (["--plan", "{folder}/first"], "leaves the first 64 tokens dense, and there are 64"),
        (["--model", "{folder}/mamba", "--plan", "{folder}/mamba_plan"], "no past_key_values"),
        (["--prompt", "65"], "--prompt 65"),
        (["--tokens", "121"], "128 positions"),
        (["--curve", "0.3"], "--calibration-text"),
        (["--curve", "1.3", "--calibration-text", "{text}"], "sparsity must be in [0, 1)"),
        (["--dense", "float32", "float32"], "--dense"),
        (["--dtype", "int3"], "invalid choice 'int3'"),
        (["--out", "{plan}"], "exists already"),
    ],
)
def test_mistakes_in_measuring_end_with_one_line(run, places, flags, message):
    if not (places["folder"] / "other").exists():
        save_model(places["folder"] / "other", llama(intermediate_size=48))
        sizes = {"vocab_size": SIZE, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 1}
        mamba = MambaForCausalLM(MambaConfig(**sizes)).eval()
        save_model(places["folder"] / "mamba", mamba)
        plan = calibrate(mamba, [torch.randint(2, 18, (2, 9))], 0.5, score="weight")
        plan.save(places["folder"] / "mamba_plan")
    status, _, error = run(*BENCH, "--out", "{new}", *flags)
    assert status == 2
    assert message in error
    assert "Traceback" not in error
    assert not places["new"].exists()


def test_calibrate_finds_a_directory_that_cannot_be_made_before_it_loads_the_model(run):
    status, _, error = run(*CALIBRATE, "--out", "{text}/new", "--model", "{folder}/none")
    assert status == 2
    assert "text.txt/new could not be written (Not a directory)" in error


def test_bench_finds_a_directory_that_cannot_be_made_before_it_measures(run, monkeypatch):
    monkeypatch.setattr("sparsact.evaluation.bench_run.window_losses", lambda *_: 1 / 0)
    status, _, error = run(*BENCH, "--out", "{text}/new")
    assert status == 2
    assert "text.txt/new could not be written (Not a directory)" in error


def test_a_report_that_fails_leaves_no_empty_directory(run, places, monkeypatch):
    monkeypatch.setattr("sparsact.evaluation.bench_run.decode_in_turn", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*BENCH, "--out", "{new}")
    assert not places["new"].exists()


def test_too_little_memory_ends_with_advice(run, monkeypatch):
    class Memory:
        available = 10_000

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    status, _, error = run(*BENCH, "--out", "{new}")
    assert status == 2
    assert "--dense bfloat16 alone" in error


def test_the_flags_offer_the_choices_of_the_library():
    flags = get_type_hints(CalibrateFlags)
    assert set(get_args(flags["score"])) == set(SCORES)
    assert set(get_args(flags["allocate"])) == set(ALLOCATIONS)
    assert set(get_args(get_type_hints(BenchConfig)["dtype"])) == set(DTYPES)
    defaults = calibrate.__kwdefaults__
    for name in ("score", "allocate", "keep_first"):
        assert getattr(CalibrateFlags("", ()), name) == defaults[name]
